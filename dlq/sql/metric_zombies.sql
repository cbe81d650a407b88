-- Running steps whose worker is lost and that nobody has taken over, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT s.org_id, count(*)::float8, (array_agg(s.run_id))[1], (array_agg(s.key))[1]
  FROM headrace_workflows_steprun s
 WHERE s.status = 'running' AND s.lease_until < %(now)s - make_interval(secs => %(lost_s)s)
 GROUP BY s.org_id
