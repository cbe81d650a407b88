-- Delete step runs of runs that were deleted, a bounded number, with what stands for them while they wait.
-- Parameters: runs uuid[], batch bigint.
-- Returns: rows int.
-- Indexes: step_run_identity, celery_task_by_step, primary keys.
WITH gone AS (
    DELETE FROM headrace_workflows_steprun WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM headrace_workflows_steprun s WHERE s.run_id = ANY (%(runs)s::uuid[]) LIMIT %(batch)s))
    RETURNING id
), waits AS (
    DELETE FROM headrace_workflows_wait WHERE step_run_id IN (SELECT id FROM gone)
), tasks AS (
    DELETE FROM headrace_workflows_celerytask WHERE step_run_id IN (SELECT id FROM gone)
)
SELECT count(*)::int AS rows FROM gone
