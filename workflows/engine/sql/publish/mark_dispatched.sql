-- Note that ready steps are being published, or with `published` false that it failed. Returns the steps that are still
-- ready.
-- Parameters: ids uuid[], published bool.
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, losses int, needs_prepare bool.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
UPDATE headrace_workflows_steprun s
   SET dispatched_at = CASE WHEN %(published)s THEN clock_timestamp() END,
       dispatch_count = CASE WHEN %(published)s THEN greatest(1, s.dispatch_count)
                             ELSE greatest(0, s.dispatch_count - 1) END,
       waiting_for = ''
  FROM (SELECT id FROM unnest(%(ids)s::uuid[]) AS u (id) ORDER BY id) w
 WHERE s.id = w.id AND s.status || '' = 'ready'
RETURNING s.id, s.run_id, s.version_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt, s.needs_total,
          s.needs_met, s.losses, false AS needs_prepare
