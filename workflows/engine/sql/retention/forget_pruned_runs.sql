-- Runs of which nothing is left.
-- Parameters: runs uuid[].
-- Returns: run_id uuid.
-- Indexes: primary key, attempt_by_run, step_run_identity, fan_out_by_run.
DELETE FROM headrace_workflows_prunedrun p
 WHERE p.run_id = ANY (%(runs)s::uuid[])
   AND NOT EXISTS (SELECT FROM headrace_workflows_attempt a WHERE a.run_id = p.run_id)
   AND NOT EXISTS (SELECT FROM headrace_workflows_steprun s WHERE s.run_id = p.run_id)
   AND NOT EXISTS (SELECT FROM headrace_workflows_fanout f WHERE f.run_id = p.run_id)
RETURNING p.run_id
