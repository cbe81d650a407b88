-- Average duration of the runs ended within the window, in seconds, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT r.org_id, avg(extract(epoch FROM r.ended_at - COALESCE(r.started_at, r.created_at)))::float8,
       (array_agg(r.id ORDER BY r.ended_at - r.created_at DESC))[1], ''
  FROM headrace_workflows_run r
 WHERE r.status IN ('completed', 'failed') AND r.ended_at IS NOT NULL AND r.ended_at > %(since)s
 GROUP BY r.org_id HAVING count(*) >= %(least)s
