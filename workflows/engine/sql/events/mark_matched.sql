-- Mark events as matched.
-- Parameters: ids uuid[], unheard uuid[] (those of them that nobody listens to).
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_event SET matched_at = statement_timestamp(), unheard = id = ANY (%(unheard)s::uuid[])
 WHERE id = ANY (%(ids)s::uuid[])
