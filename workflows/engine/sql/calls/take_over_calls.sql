-- A repeated run takes over the journal of a function: the steps of the earlier run that have completed, and those that
-- have failed and after which its code went on, up to the one from which it is to run again. Their rows are copied
-- under the function's step of the new run.
-- Parameters: run uuid (the new one), origin uuid, key text (of the function's step), until int or null (the position
--   of the step to run again; those from it on are left out).
-- Returns: id uuid.
-- Indexes: step_run_identity, step_run_item. (`status || ''` hides the partial indexes from the planner: ADR 4.)
INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, key, path, container_id, position, type, queue,
                                        priority, status, attempt, losses, told_waits, needs_total, needs_left,
                                        needs_met, is_sink, timeout_ms, wake_seq, waiting_for, dispatch_count,
                                        created_at, ready_at, started_at, ended_at, output, reason, memoized_from)
SELECT headrace_uuid7(), f.org_id, f.run_id, f.version_id, o.key, f.key, f.id, o.position, o.type, o.queue, f.priority,
       o.status, o.attempt, 0, 0, 0, 0, 0, false, o.timeout_ms, 0, '', 0, clock_timestamp(), o.ready_at, o.started_at,
       o.ended_at, o.output, o.reason, COALESCE(o.memoized_from, o.id)
  FROM headrace_workflows_steprun f
  JOIN headrace_workflows_steprun old ON old.run_id = %(origin)s AND old.key = f.key AND old.path = ''
  JOIN headrace_workflows_steprun o ON o.container_id = old.id
 WHERE f.run_id = %(run)s AND f.key = %(key)s AND f.path = ''
   AND (o.status || '' = 'completed'
        OR (o.status || '' = 'failed' AND EXISTS (SELECT FROM headrace_workflows_steprun later
                                                   WHERE later.container_id = old.id AND later.position > o.position
                                                     AND later.created_at > o.ended_at)))
   AND (%(until)s::int IS NULL OR o.position < %(until)s)
RETURNING id
