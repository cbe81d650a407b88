-- Share of the runs ended within the window that failed, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT r.org_id, avg((r.status = 'failed')::int)::float8,
       (array_agg(r.id ORDER BY r.ended_at DESC) FILTER (WHERE r.status = 'failed'))[1], ''
  FROM headrace_workflows_run r
 WHERE r.status IN ('completed', 'failed') AND r.ended_at IS NOT NULL AND r.ended_at > %(since)s
 GROUP BY r.org_id HAVING count(*) >= %(least)s
