-- Lock the functions whose steps have ended, in the order of their ids, in a statement before `wake_functions`: one
-- that is being suspended meanwhile has counted these steps as open, and is seen as waiting only once that is
-- committed.
-- Parameters: ended uuid[] (step runs).
-- Returns: id uuid.
-- Index: primary key.
SELECT f.id FROM headrace_workflows_steprun f
 WHERE f.id IN (SELECT s.container_id FROM headrace_workflows_steprun s WHERE s.id = ANY (%(ended)s::uuid[]))
 ORDER BY f.id FOR NO KEY UPDATE
