-- Take the log lines off old attempts of an organization's ended runs; the attempts stay. A page from a place on.
-- Parameters: org uuid, before uuid (the first id of that time), after uuid (go on after it), batch bigint.
-- Returns: last uuid or null (the last attempt that was looked at; null: there is none), cleared int.
-- Index: attempt_with_logs.
WITH page AS MATERIALIZED (
    SELECT a.id, a.run_id FROM headrace_workflows_attempt a
     WHERE a.org_id = %(org)s AND a.logs IS NOT NULL AND a.id < %(before)s AND a.id > %(after)s
     ORDER BY a.id LIMIT %(batch)s
), cleared AS (
    UPDATE headrace_workflows_attempt a SET logs = NULL
      FROM page p JOIN headrace_workflows_run r ON r.id = p.run_id AND r.ended_at IS NOT NULL
     WHERE a.id = p.id
    RETURNING 1
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*)::int FROM cleared) AS cleared
