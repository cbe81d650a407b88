-- Delete events, which are locked.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
DELETE FROM headrace_workflows_event WHERE id = ANY (%(ids)s::uuid[]) RETURNING id
