-- Runs that have ended while somebody still waits for them. Parameters: batch int. Returns: child_id. Index: wait_by_child.
SELECT w.child_id FROM workflows_wait w JOIN workflows_run c ON c.id = w.child_id AND c.ended_at IS NOT NULL
 WHERE w.kind = 'run' AND w.taken_at IS NULL LIMIT %(batch)s
