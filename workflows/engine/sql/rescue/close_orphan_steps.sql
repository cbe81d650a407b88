-- Open steps of runs that have ended: cancel them.
-- Parameters: batch bigint.
-- Returns: id uuid.
-- Indexes: step_run_ready, step_run_parked, step_run_wake, primary keys.
UPDATE headrace_workflows_steprun s
   SET status = 'cancelled', ended_at = clock_timestamp(), lease_token = NULL, lease_until = NULL, wake_at = NULL,
       waiting_for = ''
  FROM (SELECT s.id
          FROM (SELECT id, run_id FROM headrace_workflows_steprun WHERE status = 'ready' AND waiting_for = ''
                 UNION ALL
                SELECT id, run_id FROM headrace_workflows_steprun WHERE status = 'ready' AND waiting_for = 'limit'
                 UNION ALL
                SELECT id, run_id FROM headrace_workflows_steprun WHERE status = 'waiting') s
          JOIN headrace_workflows_run r ON r.id = s.run_id
         WHERE r.status NOT IN ('queued', 'running')
         LIMIT %(batch)s) o
 WHERE s.id = o.id AND s.status IN ('ready', 'waiting')
RETURNING s.id
