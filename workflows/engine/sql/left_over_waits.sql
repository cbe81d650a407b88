-- Waits that are over, and that nobody has recorded for a while. Parameters: grace_s float8, batch int.
-- Returns: step_run_id. Index: wait_taken_at.
SELECT step_run_id FROM workflows_wait
 WHERE taken_at IS NOT NULL AND taken_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
 ORDER BY taken_at LIMIT %(batch)s
