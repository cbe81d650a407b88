-- Which of these runs are stored.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_run WHERE id = ANY (%(ids)s::uuid[])
