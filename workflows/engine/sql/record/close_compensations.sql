-- Everything that had to be undone is.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_run SET has_hooks = false WHERE id = ANY (%(ids)s::uuid[])
