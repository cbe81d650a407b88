-- Of runs that are waited for by those that started them: the flows of these, of those above them, and so on.
-- Parameters: ids uuid[].
-- Returns: id uuid, flows uuid[].
-- Index: primary key.
WITH RECURSIVE line AS (
    SELECT r.id, r.parent_id FROM headrace_workflows_run r WHERE r.id = ANY (%(ids)s::uuid[]) AND r.awaited
    UNION ALL
    SELECT l.id, CASE WHEN p.awaited THEN p.parent_id END FROM line l
        JOIN headrace_workflows_run p ON p.id = l.parent_id
)
SELECT l.id, array_agg(DISTINCT p.flow_id) AS flows FROM line l
    JOIN headrace_workflows_run p ON p.id = l.parent_id GROUP BY l.id
