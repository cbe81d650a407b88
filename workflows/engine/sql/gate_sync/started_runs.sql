-- Live runs that have started, of the versions named: they hold run slots. One that only waits (sleeps) holds no place
-- among all runs.
-- Parameters: versions uuid[].
-- Returns: id uuid, version_id uuid, sleeps bool.
-- Indexes: run_live_by_age, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
SELECT r.id, r.version_id,
       NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s
           WHERE s.run_id = r.id AND s.status || '' IN ('ready', 'running'))
           AS sleeps
  FROM headrace_workflows_run r
 WHERE r.status = 'running' AND r.version_id = ANY (%(versions)s::uuid[])
