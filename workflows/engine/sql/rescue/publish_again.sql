-- Steps whose message is lost: note them as not dispatched, so that they are published again; that is counted.
-- Parameters: ids uuid[]. Returns: the steps. Index: primary key.
UPDATE workflows_steprun s SET dispatched_at = NULL, dispatch_count = s.dispatch_count + 1
  FROM (SELECT id FROM unnest(%(ids)s::uuid[]) AS u (id) ORDER BY id) w
 WHERE s.id = w.id AND s.status || '' = 'ready'
RETURNING s.id, s.run_id, s.version_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt, s.needs_total, s.needs_met, s.losses,
          true AS unprepared
