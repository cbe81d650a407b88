-- Containers that do not wait any more.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary keys.
UPDATE headrace_workflows_fanout f SET concluded = true
  FROM headrace_workflows_steprun s
 WHERE f.step_run_id = ANY (%(ids)s::uuid[]) AND s.id = f.step_run_id AND s.status <> 'waiting' AND NOT f.concluded
