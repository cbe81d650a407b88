-- waiting → ready for every timer that is due. Two pumps at once share the work. (Waits have their own timeouts.)
-- Returns the steps, to be dispatched.
-- Parameters: batch bigint.
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, losses int, needs_prepare bool.
-- Index: step_run_wake.
WITH due AS (
    SELECT id FROM headrace_workflows_steprun
     WHERE status = 'waiting' AND wake_at <= statement_timestamp()
       AND waiting_for IN ('retry', 'sleep', 'delay', 'pause')
     ORDER BY wake_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
UPDATE headrace_workflows_steprun s
   SET status = 'ready', ready_at = clock_timestamp(), wake_at = NULL,
       wake_seq = s.wake_seq + (s.waiting_for = 'sleep')::int, waiting_for = '', dispatched_at = NULL
  FROM due
 WHERE s.id = due.id
RETURNING s.id, s.run_id, s.version_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt, s.needs_total,
          s.needs_met, s.losses, true AS needs_prepare
