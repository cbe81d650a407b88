-- The last round of a loop: a step of it, whose scope is that of the round, and the round's result.
-- Parameters: id uuid (of the loop), index int, keys text[] (the step whose output is the result, and those that may
--   stand in for it).
-- Returns: id uuid, output jsonb or null.
-- Index: step_run_item.
SELECT s.id, CASE WHEN s.status = 'completed' THEN s.output END AS output FROM headrace_workflows_steprun s
 WHERE s.container_id = %(id)s AND s.index = %(index)s AND s.key = ANY (%(keys)s::text[])
 ORDER BY s.status <> 'completed', array_position(%(keys)s::text[], s.key::text) LIMIT 1
