-- Give the leader's lease back, so that another process takes over at once.
-- Parameters: name text, holder uuid.
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_leaderlease WHERE name = %(name)s AND holder = %(holder)s
