-- What executes now, for the rebuilding of the gate's leases. Returns a row per step.
-- Parameters: none.
-- Returns: id uuid, lease_token uuid, run_id uuid, version_id uuid, key text, queue text.
-- Index: step_run_running.
SELECT s.id, s.lease_token, s.run_id, s.version_id, s.key, s.queue FROM headrace_workflows_steprun s
    WHERE s.status = 'running'
