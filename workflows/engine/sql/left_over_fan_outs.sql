-- Containers whose items have all ended, or that are to stop, and that still wait: their process died. Parameters: grace_s
-- float8, batch int. Returns: step_run_id. Index: step_run_wake (all that wait), primary key.
SELECT f.step_run_id FROM workflows_fanout f
  JOIN workflows_steprun s ON s.id = f.step_run_id AND s.status = 'waiting' AND s.waiting_for = 'items'
 WHERE (f.ended = f.total OR f.stopping) AND f.changed_at < clock_timestamp() - make_interval(secs => %(grace_s)s)
 LIMIT %(batch)s
