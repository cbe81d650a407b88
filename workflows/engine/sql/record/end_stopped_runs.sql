-- End runs that are bound to fail or cancelled, once nothing of them runs. A run whose steps may have to be undone ends
-- after that. A statement of its own after withdraw_open: its snapshot sees the claims that that one waited for.
-- Returns the runs that ended; with status 'compensate' the runs of which nothing runs and whose steps may have to be
--   undone.
-- Parameters: ids uuid[].
-- Returns: id uuid, status text.
-- Index: step_run_identity.
WITH idle AS (
    SELECT r.id, r.has_hooks FROM headrace_workflows_run r
     WHERE r.id = ANY (%(ids)s::uuid[]) AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)
       AND r.status IN ('queued', 'running')
       AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s WHERE s.run_id = r.id AND s.status = 'running')
), ended AS (
    UPDATE headrace_workflows_run r
       SET status = CASE WHEN r.error IS NOT NULL THEN 'failed' ELSE 'cancelled' END, ended_at = clock_timestamp()
      FROM idle
     WHERE r.id = idle.id AND NOT idle.has_hooks
    RETURNING r.id, r.status
)
SELECT id, status FROM ended
UNION ALL SELECT id, 'compensate' FROM idle WHERE has_hooks
