-- Steps that undo others become ready since those have failed, while their runs go on; the runs wait for them too.
-- Returns the steps, to be dispatched.
-- Parameters: failed text (a JSON array of {step, lease (null: it waited), key (of the step that undoes it)}).
-- Returns: id uuid, run_id uuid, version_id uuid, key text, queue text, type text, priority int, attempt int,
--   needs_total int, needs_met int, needs_prepare bool.
-- Indexes: primary keys, step_key, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR
--   4.)
WITH failed AS (
    SELECT DISTINCT s.run_id, f.key
      FROM json_to_recordset(%(failed)s::json) AS f (step uuid, lease uuid, key text)
      JOIN headrace_workflows_steprun s ON s.id = f.step
       AND ((s.status || '' = 'running' AND s.lease_token = f.lease)
            OR (f.lease IS NULL AND s.status || '' = 'waiting'))
), new AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, position, type, queue,
                                            priority, status, attempt, losses, told_waits, needs_total, needs_left,
                                            needs_met, is_sink, is_hook, timeout_ms, wake_seq, waiting_for,
                                            dispatch_count, created_at, ready_at)
    SELECT headrace_uuid7(), r.org_id, r.id, r.version_id, s.id, s.key, '', s.position, s.type, s.queue, r.priority,
           'ready', 1, 0, 0, 0, 0, 0, true, true, s.timeout_ms, 0, '', 0, clock_timestamp(), clock_timestamp()
      FROM failed f
      JOIN headrace_workflows_run r ON r.id = f.run_id AND r.error IS NULL AND r.cancel_requested_at IS NULL
                          AND r.ended_at IS NULL
      JOIN headrace_workflows_step s ON s.version_id = r.version_id AND s.key = f.key
     ORDER BY r.id, s.key
    ON CONFLICT (run_id, key, path) DO NOTHING
    RETURNING id, run_id, version_id, key, queue, type, priority, attempt, needs_total, needs_met, true AS needs_prepare
), held AS (
    UPDATE headrace_workflows_run r SET sinks_left = r.sinks_left + n.number
      FROM (SELECT run_id, count(*)::int AS number FROM new GROUP BY run_id ORDER BY run_id) n
     WHERE r.id = n.run_id
)
SELECT * FROM new
