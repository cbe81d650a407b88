-- Delete items of containers of runs that were deleted, a bounded number.
-- Parameters: runs uuid[], batch bigint.
-- Returns: rows int.
-- Indexes: fan_out_by_run, primary key.
WITH gone AS (
    DELETE FROM headrace_workflows_item WHERE ctid = ANY (ARRAY(
        SELECT i.ctid FROM headrace_workflows_fanout f JOIN headrace_workflows_item i ON i.container_id = f.step_run_id
         WHERE f.run_id = ANY (%(runs)s::uuid[]) LIMIT %(batch)s))
    RETURNING 1
)
SELECT count(*)::int AS rows FROM gone
