-- What executes now, for the rebuilding of the gate's leases. Returns a row per step. Index: step_run_running.
SELECT s.id, s.lease_token, s.run_id, s.version_id, s.key, s.queue FROM workflows_steprun s WHERE s.status = 'running'
