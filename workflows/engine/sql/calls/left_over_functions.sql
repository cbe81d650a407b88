-- Functions that wait for steps although none of those that they have asked for is open: wake them. It should never
-- find one; a run must not wait for ever where it does.
-- Parameters: batch bigint.
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, losses int, needs_prepare bool.
-- Indexes: step_run_wake, step_run_item, primary key.
WITH left_over AS MATERIALIZED (
    SELECT f.id FROM headrace_workflows_steprun f
     WHERE f.status = 'waiting' AND f.wake_at IS NULL AND f.waiting_for = 'steps'
       AND NOT EXISTS (SELECT FROM headrace_workflows_steprun s
                        WHERE s.container_id = f.id AND s.status || '' IN ('pending', 'ready', 'running', 'waiting'))
     LIMIT %(batch)s FOR UPDATE OF f SKIP LOCKED
)
UPDATE headrace_workflows_steprun s
   SET status = 'ready', waiting_for = '', needs_left = 0, wake_seq = s.wake_seq + 1, ready_at = clock_timestamp(),
       dispatched_at = NULL
  FROM left_over l
 WHERE s.id = l.id AND s.status || '' = 'waiting'
RETURNING s.id, s.run_id, s.version_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt, s.needs_total,
          s.needs_met, s.losses, true AS needs_prepare
