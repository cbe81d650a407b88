-- What the handlers of running steps report.
-- Parameters: reports text (a JSON array of {id, lease, progress}).
-- Returns: nothing.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
UPDATE headrace_workflows_steprun s SET progress = p.progress
  FROM json_to_recordset(%(reports)s::json) AS p (id uuid, lease uuid, progress jsonb)
 WHERE s.id = p.id AND s.status || '' = 'running' AND s.lease_token = p.lease
