-- The starts that a flow's rate limit counts: how many of each key within the period, and when the oldest of them
-- leaves it. Older ones are deleted.
-- Parameters: flow uuid, keys text[], period_s float8.
-- Returns: key text, number int, oldest_age_s float8.
-- Index: run_start_by_key.
WITH gone AS (
    DELETE FROM headrace_workflows_runstart
     WHERE flow_id = %(flow)s AND key = ANY (%(keys)s::text[])
       AND at <= clock_timestamp() - make_interval(secs => %(period_s)s)
)
SELECT key, count(*)::int AS number, extract(epoch FROM clock_timestamp() - min(at))::float8 AS oldest_age_s
  FROM headrace_workflows_runstart
 WHERE flow_id = %(flow)s AND key = ANY (%(keys)s::text[])
   AND at > clock_timestamp() - make_interval(secs => %(period_s)s)
 GROUP BY key
