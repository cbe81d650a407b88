-- Longest wait of a step for its start within the window, in seconds, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT DISTINCT ON (a.org_id) a.org_id, extract(epoch FROM a.started_at - a.ready_at)::float8, a.run_id,
       (SELECT s.key FROM headrace_workflows_steprun s WHERE s.id = a.step_run_id)
  FROM headrace_workflows_attempt a
 WHERE a.id >= %(first)s AND a.started_at IS NOT NULL AND a.ready_at IS NOT NULL
 ORDER BY a.org_id, a.started_at - a.ready_at DESC
