-- Take the waits whose time is up. Two at once share the work.
-- Parameters: batch bigint.
-- Returns: step_run_id uuid.
-- Index: wait_timeout.
WITH due AS (
    SELECT step_run_id FROM headrace_workflows_wait WHERE taken_at IS NULL AND expires_at <= statement_timestamp()
     ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
UPDATE headrace_workflows_wait w SET taken_at = clock_timestamp(), taken_by = 'timeout'
  FROM due WHERE w.step_run_id = due.step_run_id
RETURNING w.step_run_id
