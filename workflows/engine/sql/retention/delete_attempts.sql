-- Delete attempts of runs that were deleted, a bounded number.
-- Parameters: runs uuid[], batch bigint.
-- Returns: rows int.
-- Index: attempt_by_run.
WITH gone AS (
    DELETE FROM headrace_workflows_attempt WHERE ctid = ANY (ARRAY(
        SELECT a.ctid FROM headrace_workflows_attempt a WHERE a.run_id = ANY (%(runs)s::uuid[]) LIMIT %(batch)s))
    RETURNING 1
)
SELECT count(*)::int AS rows FROM gone
