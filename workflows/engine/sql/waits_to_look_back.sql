-- Waits whose process died between its commit and its look at what came before. Parameters: grace_s float8, batch int.
-- Returns: step_run_id. Index: wait_not_looked_back.
SELECT step_run_id FROM workflows_wait
 WHERE NOT looked_back AND created_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
 ORDER BY created_at LIMIT %(batch)s
