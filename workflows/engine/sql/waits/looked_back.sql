-- What came before these waits was looked at.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_wait SET looked_back = true WHERE step_run_id = ANY (%(ids)s::uuid[]) AND NOT looked_back
