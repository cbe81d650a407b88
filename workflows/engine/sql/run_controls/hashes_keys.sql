-- Whether the keys that flows of an organization compute are stored hashed.
-- Parameters: org uuid.
-- Returns: hashed bool.
-- Index: primary key.
SELECT hashes_keys AS hashed FROM headrace_workflows_organization WHERE id = %(org)s
