-- Runs that are cancelled for the sake of new ones give their keys up.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_run SET singleton_key = '' WHERE id = ANY (%(ids)s::uuid[])
