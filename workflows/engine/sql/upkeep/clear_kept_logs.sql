-- Take the log lines off steps of an organization's ended runs that were kept while they waited; the steps stay. A page
-- from a place on.
-- Parameters: org uuid, before uuid (the first id of that time), after uuid (go on after it), ended_before timestamptz
--   (that time), batch bigint.
-- Returns: last uuid or null (the last step that was looked at; null: there is none), cleared int.
-- Index: step_run_with_logs.
WITH page AS MATERIALIZED (
    SELECT s.id, s.run_id FROM headrace_workflows_steprun s
     WHERE s.org_id = %(org)s AND s.kept_logs IS NOT NULL AND s.id < %(before)s AND s.id > %(after)s
     ORDER BY s.id LIMIT %(batch)s
), cleared AS (
    UPDATE headrace_workflows_steprun s SET kept_logs = NULL
      FROM page p JOIN headrace_workflows_run r ON r.id = p.run_id AND r.ended_at < %(ended_before)s
     WHERE s.id = p.id
    RETURNING 1
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*)::int FROM cleared) AS cleared
