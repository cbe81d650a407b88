-- Keep an ended run from being deleted until the transaction ends: for those who are about to refer to it.
-- Parameters: id uuid.
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_run WHERE id = %(id)s FOR KEY SHARE
