-- Runs that have not started, or not ended, in time; locked.
-- Parameters: batch bigint.
-- Returns: id uuid, org_id uuid, started bool (it has).
-- Index: run_timeout.
SELECT id, org_id, status <> 'queued' AS started FROM headrace_workflows_run
 WHERE status IN ('queued', 'running') AND timeout_at IS NOT NULL AND timeout_at <= statement_timestamp()
   AND cancel_requested_at IS NULL AND error IS NULL
 ORDER BY timeout_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
