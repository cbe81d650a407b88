-- Observed Celery tasks (of the application itself) that failed or were lost within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id (there is none), step (a task's name).
-- Index: observed_failures.
SELECT o.org_id, count(*)::float8, NULL::uuid, (array_agg(o.name ORDER BY o.ended_at DESC))[1]
  FROM headrace_workflows_observedtask o
 WHERE o.state IN ('failed', 'lost') AND o.ended_at > %(since)s AND o.org_id IS NOT NULL
 GROUP BY o.org_id
