-- Runs that have not started, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT r.org_id, count(*)::float8, (array_agg(r.id ORDER BY r.id))[1], '' FROM headrace_workflows_run r
 WHERE r.status = 'queued' AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s
                                            WHERE s.run_id = r.id AND s.status = 'waiting')
 GROUP BY r.org_id
