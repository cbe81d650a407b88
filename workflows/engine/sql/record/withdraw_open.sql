-- Of runs that are bound to fail or cancelled: cancel what is open. What a claim is taking right now is waited for, and
-- left to it. The caller holds the runs' row locks. Returns the steps that were ready and will not start.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: step_run_identity.
WITH stopped AS (
    UPDATE headrace_workflows_steprun s SET status = 'cancelled', ended_at = clock_timestamp(), wake_at = NULL,
        waiting_for = ''
      FROM headrace_workflows_run r, (SELECT id, status = 'ready' AS was_ready FROM headrace_workflows_steprun
                              WHERE run_id = ANY (%(ids)s::uuid[])) old
     WHERE r.id = ANY (%(ids)s::uuid[]) AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)
       AND r.status IN ('queued', 'running') AND s.run_id = r.id AND s.id = old.id
       AND s.status IN ('pending', 'ready', 'waiting') AND NOT s.is_hook
    RETURNING s.id, old.was_ready
), dropped AS (
    DELETE FROM headrace_workflows_wait w USING stopped WHERE w.step_run_id = stopped.id
)
SELECT id FROM stopped WHERE was_ready
