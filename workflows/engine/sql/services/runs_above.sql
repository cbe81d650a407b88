-- A run, and those above it that have started each other.
-- Parameters: id uuid, limit int (no further).
-- Returns: id uuid.
-- Index: primary key.
WITH RECURSIVE line AS (
    SELECT r.id, r.parent_id, 0 AS depth FROM headrace_workflows_run r WHERE r.id = %(id)s
    UNION ALL
    SELECT r.id, r.parent_id, l.depth + 1 FROM line l JOIN headrace_workflows_run r ON r.id = l.parent_id
     WHERE l.depth < %(limit)s
)
SELECT id FROM line
