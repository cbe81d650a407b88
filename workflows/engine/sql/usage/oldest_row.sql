-- When the oldest row with a payload was made.
-- Parameters: none.
-- Returns: id uuid or null.
-- Index: the primary keys.
SELECT LEAST((SELECT min(id::text) FROM (SELECT id FROM headrace_workflows_event ORDER BY id LIMIT 1) e),
             (SELECT min(id::text) FROM (SELECT id FROM headrace_workflows_run ORDER BY id LIMIT 1) r),
             (SELECT min(id::text) FROM (SELECT id FROM headrace_workflows_steprun ORDER BY id LIMIT 1) s),
             (SELECT min(id::text) FROM (SELECT id FROM headrace_workflows_attempt ORDER BY id LIMIT 1) a))::uuid AS id
