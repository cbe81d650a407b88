-- Containers whose items have all ended, or that are to stop, and that still wait: their process died. The first of
-- each organization comes before the second of any.
-- Parameters: grace_s float8, batch bigint, put_off uuid[].
-- Returns: id uuid (of the step run), org_id uuid.
-- Index: fan_out_over.
SELECT f.id, f.org_id FROM (
    SELECT u.*, row_number() OVER (PARTITION BY u.org_id ORDER BY u.at) AS place FROM (
        SELECT step_run_id AS id, org_id, changed_at AS at FROM headrace_workflows_fanout
         WHERE NOT concluded AND (stopping OR ended = total)
           AND changed_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
           AND step_run_id <> ALL (%(put_off)s::uuid[])
         ORDER BY changed_at LIMIT 20000) u) f
 ORDER BY f.place, f.at LIMIT %(batch)s
