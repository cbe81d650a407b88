-- Runs that were deleted and of which something may be left, the earliest first. They are locked: who deletes at the
-- same time takes others.
-- Parameters: runs uuid[] or null (of these only), put_off uuid[] (runs that are not to be tried now), batch bigint.
-- Returns: run_id uuid, org_id uuid.
-- Index: pruned_run_by_time, primary key.
SELECT run_id, org_id FROM headrace_workflows_prunedrun
 WHERE (%(runs)s::uuid[] IS NULL OR run_id = ANY (%(runs)s::uuid[])) AND run_id <> ALL (%(put_off)s::uuid[])
 ORDER BY pruned_at, run_id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
