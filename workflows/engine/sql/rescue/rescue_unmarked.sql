-- Pending steps that have no need left: make them ready.
-- Parameters: batch bigint.
-- Returns: id uuid.
-- Index: step_run_unmarked.
UPDATE headrace_workflows_steprun s SET status = 'ready', ready_at = clock_timestamp(), dispatched_at = NULL
  FROM (SELECT id FROM headrace_workflows_steprun WHERE status = 'pending' AND needs_left = 0 LIMIT %(batch)s
           FOR UPDATE SKIP LOCKED) p
 WHERE s.id = p.id
RETURNING s.id
