-- Ready steps that nobody published (the process died between commit and publish), after a second of grace.
-- Parameters: batch int. Returns: the steps, to be prepared and dispatched. Index: step_run_ready.
SELECT s.id, s.run_id, s.version_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt, s.needs_total, s.needs_met, s.losses,
          true AS unprepared
  FROM workflows_steprun s
 WHERE s.status = 'ready' AND s.waiting_for = '' AND s.dispatched_at IS NULL AND s.queue = ANY (%(queues)s::text[])
   AND s.ready_at < clock_timestamp() - interval '1 second'
 ORDER BY s.ready_at LIMIT %(batch)s
