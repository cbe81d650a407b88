-- Take the waits for runs that have ended, among these. One that is not there any more has ended, and was deleted.
-- Parameters: children uuid[] (the runs).
-- Returns: step_run_id uuid.
-- Indexes: wait_by_child, primary keys.
WITH held AS MATERIALIZED (
    SELECT w.step_run_id FROM headrace_workflows_wait w
        LEFT JOIN headrace_workflows_run c ON c.id = w.child_id
     WHERE w.kind = 'run' AND w.taken_at IS NULL AND w.child_id = ANY (%(children)s::uuid[])
       AND (c.id IS NULL OR c.ended_at IS NOT NULL)
     ORDER BY w.step_run_id FOR UPDATE OF w
)
UPDATE headrace_workflows_wait w SET taken_at = clock_timestamp(), taken_by = 'run'
  FROM held WHERE w.step_run_id = held.step_run_id
RETURNING w.step_run_id
