-- Most retries of one step within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT DISTINCT ON (a.org_id) a.org_id, (a.number - 1)::float8, a.run_id,
       (SELECT s.key FROM headrace_workflows_steprun s WHERE s.id = a.step_run_id)
  FROM headrace_workflows_attempt a WHERE a.id >= %(first)s AND a.number > 1 ORDER BY a.org_id, a.number DESC
