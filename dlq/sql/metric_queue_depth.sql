-- Steps that are ready and have not started, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT s.org_id, count(*)::float8, (array_agg(s.run_id ORDER BY s.ready_at))[1],
       (array_agg(s.key ORDER BY s.ready_at))[1] FROM headrace_workflows_steprun s
           WHERE s.status = 'ready' GROUP BY s.org_id
