-- Give the leader's lease back, so that another process takes over at once.
-- Parameters: name text, holder uuid.
-- Returns: nothing.
-- Index: primary key.
DELETE FROM workflows_leaderlease WHERE name = %(name)s AND holder = %(holder)s
