-- Lock runs in the order of their ids.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_run WHERE id = ANY (%(ids)s::uuid[]) ORDER BY id FOR UPDATE
