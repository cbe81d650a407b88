-- Live runs that need a hand: bound to fail or cancelled, or (with `deep`, which looks at every live run) without any
-- open step. Parameters: batch int, deep bool.
-- Returns: id, finished (every step has ended, the run has not). Index: run_live, step_run_identity.
SELECT r.id, NOT EXISTS (SELECT 1 FROM workflows_steprun s
                          WHERE s.run_id = r.id AND s.status IN ('pending', 'ready', 'running', 'waiting')) AS finished
  FROM workflows_run r
 WHERE r.status IN ('queued', 'running')
   AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL
        OR (%(deep)s AND NOT EXISTS (SELECT 1 FROM workflows_steprun s
                        WHERE s.run_id = r.id AND s.status IN ('pending', 'ready', 'running', 'waiting'))))
 LIMIT %(batch)s
