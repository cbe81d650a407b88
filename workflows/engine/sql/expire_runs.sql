-- Set the cancel flag of runs that have not started, or not ended, in time. Parameters: batch int.
-- Returns: id. Index: run_timeout.
WITH due AS (
    SELECT id FROM workflows_run
     WHERE status IN ('queued', 'running') AND timeout_at IS NOT NULL AND timeout_at <= clock_timestamp()
       AND cancel_requested_at IS NULL AND error IS NULL
     ORDER BY timeout_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
UPDATE workflows_run r
   SET cancel_requested_at = clock_timestamp(), timeout_at = NULL,
       cancel_reason = CASE WHEN r.status = 'queued' THEN 'It did not start within timeouts.start.'
                            ELSE 'It did not end within timeouts.finish.' END
  FROM due
 WHERE r.id = due.id
RETURNING r.id
