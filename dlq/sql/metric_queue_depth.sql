-- Steps that are ready and have not started, by organization. Indexes: step_run_ready, step_run_parked.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT s.org_id, count(*)::float8, (array_agg(s.run_id ORDER BY s.ready_at))[1],
       (array_agg(s.key ORDER BY s.ready_at))[1]
  FROM (SELECT org_id, run_id, key, ready_at FROM headrace_workflows_steprun
         WHERE status = 'ready' AND waiting_for = ''
         UNION ALL
        SELECT org_id, run_id, key, ready_at FROM headrace_workflows_steprun
         WHERE status = 'ready' AND waiting_for = 'limit') s
 GROUP BY s.org_id
