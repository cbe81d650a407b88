-- Events that nobody has matched, a page that is fair: the first `each` of every organization that has some (found by
-- one look at the index for each organization), the first of each before the second of any.
-- Parameters: late_s float8, each bigint, batch bigint, put_off uuid[].
-- Returns: id uuid, org_id uuid.
-- Index: event_unmatched_by_org.
WITH RECURSIVE orgs AS (
    (SELECT org_id FROM headrace_workflows_event WHERE matched_at IS NULL ORDER BY org_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.org_id FROM headrace_workflows_event e WHERE e.matched_at IS NULL AND e.org_id > o.org_id
             ORDER BY e.org_id LIMIT 1)
      FROM orgs o WHERE o.org_id IS NOT NULL
)
SELECT f.id, o.org_id FROM orgs o
 CROSS JOIN LATERAL (
    SELECT e.id, row_number() OVER (ORDER BY e.id) AS place FROM (
        SELECT u.id FROM headrace_workflows_event u
         WHERE u.matched_at IS NULL AND u.org_id = o.org_id AND u.id <> ALL (%(put_off)s::uuid[])
           AND u.received_at < clock_timestamp() - make_interval(secs => %(late_s)s)
         ORDER BY u.id LIMIT %(each)s) e) f
 WHERE o.org_id IS NOT NULL
 ORDER BY f.place, f.id LIMIT %(batch)s
