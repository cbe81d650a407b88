-- Lock functions of which steps are about to end, in the order of their ids, in a statement before the one that
-- records that. So the times at which a function's steps end are in the order in which that is committed, and a
-- function that is being suspended meanwhile is seen by `wake_functions` as waiting, with these steps counted as open.
-- Parameters: functions uuid[] (step runs).
-- Returns: id uuid.
-- Index: primary key.
SELECT f.id FROM headrace_workflows_steprun f
 WHERE f.id = ANY (%(functions)s::uuid[])
 ORDER BY f.id FOR NO KEY UPDATE
