-- Containers whose items have all ended, or that are to stop, and that still wait: their process died. Parameters: grace_s
-- float8, batch int. Returns: step_run_id. Index: fan_out_over.
SELECT f.step_run_id FROM workflows_fanout f
 WHERE NOT f.concluded AND (f.stopping OR f.ended = f.total)
   AND f.changed_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
 ORDER BY f.changed_at LIMIT %(batch)s
