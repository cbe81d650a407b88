-- Items of which some steps are taken over.
-- Parameters: plans text (a JSON array of {container_id, index, plan: {sinks (last steps that run), steps: {key:
--   {status, left, met, source}}}}).
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_item i SET plan = p.plan
  FROM json_to_recordset(%(plans)s::json) AS p (container_id uuid, index int, plan jsonb)
 WHERE i.container_id = p.container_id AND i.index = p.index
