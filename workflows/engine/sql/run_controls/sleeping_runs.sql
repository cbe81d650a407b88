-- Of some runs those that only wait: they have started, nothing of them is ready or running, and something waits.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Indexes: primary key, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
SELECT r.id FROM headrace_workflows_run r
 WHERE r.id = ANY (%(ids)s::uuid[]) AND r.status || '' = 'running'
   AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s
       WHERE s.run_id = r.id AND s.status || '' IN ('ready', 'running'))
   AND EXISTS (SELECT 1 FROM headrace_workflows_steprun s WHERE s.run_id = r.id AND s.status || '' = 'waiting')
