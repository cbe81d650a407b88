-- Steps that are ready and have not started, by organization. Indexes: step_run_ready, step_run_parked.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT s.org_id, count(*)::float8, (array_agg(s.run_id ORDER BY s.ready_at))[1],
       (array_agg(s.key ORDER BY s.ready_at))[1] FROM headrace_workflows_steprun s
           WHERE ((s.status = 'ready' AND s.waiting_for = '') OR (s.status = 'ready' AND s.waiting_for = 'limit'))
           GROUP BY s.org_id
