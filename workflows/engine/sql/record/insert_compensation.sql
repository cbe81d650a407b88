-- A step that undoes another one becomes ready, within a run that stops. Returns the step, to be dispatched; nothing
-- where it is there already.
-- Parameters: run uuid, key text.
-- Returns: id uuid, run_id uuid, version_id uuid, key text, queue text, type text, priority int, attempt int,
--   needs_total int, needs_met int, needs_prepare bool.
-- Indexes: step_key, step_run_identity.
INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, position, type, queue,
                                        priority, status, attempt, losses, told_waits, needs_total, needs_left,
                                        needs_met, is_sink, is_hook, timeout_ms, wake_seq, waiting_for, dispatch_count,
                                        created_at, ready_at)
SELECT headrace_uuid7(), r.org_id, r.id, r.version_id, s.id, s.key, '', s.position, s.type, s.queue, r.priority,
       'ready', 1, 0, 0, 0, 0, 0, false, true, s.timeout_ms, 0, '', 0, clock_timestamp(), clock_timestamp()
  FROM headrace_workflows_run r JOIN headrace_workflows_step s ON s.version_id = r.version_id AND s.key = %(key)s
 WHERE r.id = %(run)s
ON CONFLICT (run_id, key, path) DO NOTHING
RETURNING id, run_id, version_id, key, queue, type, priority, attempt, needs_total, needs_met, true AS needs_prepare
