-- Which of some steps and runs are still live: steps that are ready or running, runs that have not ended.
-- Parameters: steps uuid[], runs uuid[].
-- Returns: id uuid.
-- Indexes: primary keys. (`status || ''` hides the partial indexes from the planner: ADR 4.)
SELECT s.id FROM headrace_workflows_steprun s WHERE s.id = ANY (%(steps)s::uuid[])
    AND s.status || '' IN ('ready', 'running')
UNION ALL
SELECT r.id FROM headrace_workflows_run r WHERE r.id = ANY (%(runs)s::uuid[]) AND r.ended_at IS NULL
