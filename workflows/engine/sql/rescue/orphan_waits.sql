-- Waits whose steps do not wait any more: their runs were cancelled.
-- Parameters: batch bigint.
-- Returns: nothing.
-- Index: primary keys.
DELETE FROM headrace_workflows_wait WHERE step_run_id IN (
    SELECT w.step_run_id FROM headrace_workflows_wait w JOIN headrace_workflows_steprun s ON s.id = w.step_run_id
     WHERE s.status IN ('completed', 'failed', 'skipped', 'cancelled') LIMIT %(batch)s)
