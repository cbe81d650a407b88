-- A page of the steps that are noted as waiting for a limit.
-- Parameters: after uuid, batch bigint.
-- Returns: id uuid.
-- Index: step_run_parked.
SELECT id FROM headrace_workflows_steprun
 WHERE status = 'ready' AND waiting_for = 'limit' AND id > %(after)s ORDER BY id LIMIT %(batch)s
