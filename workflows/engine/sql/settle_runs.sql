-- Stop runs that are bound to fail or cancelled: cancel what is open, end the run once nothing of it runs. A run whose
-- steps may have to be undone ends after that.
-- The caller holds the run's row lock, so this statement sees every outcome recorded before.
-- Parameters: ids uuid[]. Returns: id and status of the runs that ended; with status 'undo' the runs of which nothing
-- runs and whose steps may have to be undone; with status 'withdrawn' the steps that were ready and will not start.
-- Index: step_run_identity.
WITH stopped AS (
    UPDATE workflows_steprun s SET status = 'cancelled', ended_at = clock_timestamp(), wake_at = NULL, waiting_for = ''
      FROM workflows_run r, (SELECT id, status = 'ready' AS was_ready FROM workflows_steprun
                              WHERE run_id = ANY (%(ids)s::uuid[])) old
     WHERE r.id = ANY (%(ids)s::uuid[]) AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)
       AND r.status IN ('queued', 'running') AND s.run_id = r.id AND s.id = old.id
       AND s.status IN ('pending', 'ready', 'waiting') AND NOT s.is_hook
    RETURNING s.id, old.was_ready
), idle AS (
    SELECT r.id, r.has_hooks FROM workflows_run r
     WHERE r.id = ANY (%(ids)s::uuid[]) AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)
       AND r.status IN ('queued', 'running')
       AND NOT EXISTS (SELECT 1 FROM workflows_steprun s WHERE s.run_id = r.id AND s.status = 'running')
), ended AS (
    UPDATE workflows_run r
       SET status = CASE WHEN r.error IS NOT NULL THEN 'failed' ELSE 'cancelled' END, ended_at = clock_timestamp()
      FROM idle
     WHERE r.id = idle.id AND NOT idle.has_hooks
    RETURNING r.id, r.status
)
SELECT id, status FROM ended
UNION ALL SELECT id, 'undo' FROM idle WHERE has_hooks
UNION ALL SELECT id, 'withdrawn' FROM stopped WHERE was_ready
