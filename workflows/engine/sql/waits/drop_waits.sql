-- Waits whose steps have ended.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_wait WHERE step_run_id = ANY (%(ids)s::uuid[])
