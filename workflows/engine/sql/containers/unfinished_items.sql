-- Of containers that take items over: the items that were begun in the earlier run and did not end well, with what had
-- become of their steps. Returns a row per step.
-- Parameters: ids uuid[] (of the new containers).
-- Returns: container_id uuid, index int, version_id uuid, container text (its key), id uuid, key text, type text,
--   status text, taken jsonb or null (of a conditional: the steps of its branch).
-- Indexes: primary keys, step_run_identity, step_run_item.
SELECT n.id AS container_id, i.index, n.version_id, n.key AS container, o.id, o.key, o.type, o.status,
       CASE WHEN o.type = 'conditional' THEN o.output->'then' END AS taken
  FROM headrace_workflows_steprun n
  JOIN headrace_workflows_run r ON r.id = n.run_id
  JOIN headrace_workflows_steprun old ON old.run_id = r.origin_id AND old.key = n.key AND old.path = ''
  JOIN headrace_workflows_item before ON before.container_id = old.id AND before.status IN ('open', 'failed')
  JOIN headrace_workflows_item i ON i.container_id = n.id AND i.index = before.index AND i.status = 'pending'
                       AND i.value = before.value AND i.size = before.size
  JOIN headrace_workflows_steprun o ON o.container_id = old.id AND o.index = i.index
 WHERE n.id = ANY (%(ids)s::uuid[]) AND n.takes_items
