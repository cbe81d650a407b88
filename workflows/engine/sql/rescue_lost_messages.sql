-- Dispatched steps whose message the broker has lost: dispatched before `before` (a later one has been claimed), or, with
-- `idle_s`, longer than that ago (the queue is empty and its workers idle). Marks them as not dispatched, so that they
-- are published again.
-- Parameters: queue text, before float8 (epoch seconds), idle_s float8 or null, batch int. Returns: the steps.
-- Index: step_run_ready.
WITH lost AS (
    SELECT id FROM workflows_steprun
     WHERE status = 'ready' AND waiting_for = '' AND queue = %(queue)s
       AND dispatched_at < greatest(to_timestamp(%(before)s::float8),
                                    clock_timestamp() - make_interval(secs => %(idle_s)s::float8))
     ORDER BY dispatched_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
UPDATE workflows_steprun s SET dispatched_at = NULL FROM lost
 WHERE s.id = lost.id
RETURNING s.id, s.run_id, s.version_id, s.key, s.queue, s.type, s.priority, s.attempt, s.needs_total, s.needs_met, s.losses,
          true AS unprepared
