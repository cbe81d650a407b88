-- Runs that were deleted and of which something may be left, the earliest first. They are locked: who deletes at the
-- same time takes others.
-- Parameters: batch bigint.
-- Returns: run_id uuid.
-- Index: pruned_run_by_time.
SELECT run_id FROM headrace_workflows_prunedrun ORDER BY pruned_at, run_id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
