-- Delete containers of runs that were deleted, a bounded number of those without items.
-- Parameters: runs uuid[], batch bigint.
-- Returns: rows int.
-- Indexes: fan_out_by_run, primary key.
WITH gone AS (
    DELETE FROM headrace_workflows_fanout WHERE ctid = ANY (ARRAY(
        SELECT f.ctid FROM headrace_workflows_fanout f WHERE f.run_id = ANY (%(runs)s::uuid[])
           AND NOT EXISTS (SELECT FROM headrace_workflows_item i WHERE i.container_id = f.step_run_id)
         LIMIT %(batch)s))
    RETURNING 1
)
SELECT count(*)::int AS rows FROM gone
