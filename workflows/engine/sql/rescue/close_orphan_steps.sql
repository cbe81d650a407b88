-- Open steps of runs that have ended: cancel them.
-- Parameters: batch bigint.
-- Returns: id uuid.
-- Indexes: the partial indexes over ready, waiting and running steps.
UPDATE headrace_workflows_steprun s
   SET status = 'cancelled', ended_at = clock_timestamp(), lease_token = NULL, lease_until = NULL, wake_at = NULL,
       waiting_for = ''
  FROM (SELECT s.id FROM headrace_workflows_steprun s JOIN headrace_workflows_run r ON r.id = s.run_id
         WHERE ((s.status = 'ready' AND s.waiting_for = '') OR (s.status = 'ready' AND s.waiting_for = 'limit')
                OR s.status = 'waiting') AND r.status NOT IN ('queued', 'running')
         LIMIT %(batch)s) o
 WHERE s.id = o.id AND s.status IN ('ready', 'waiting')
RETURNING s.id
