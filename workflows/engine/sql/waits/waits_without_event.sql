-- Of waits those that nobody has taken, and whose event is gone.
-- Parameters: ids uuid[] (of step runs), event_ids uuid[] (one each).
-- Returns: step_run_id uuid.
-- Index: primary keys.
SELECT w.step_run_id FROM unnest(%(ids)s::uuid[], %(event_ids)s::uuid[]) AS t (id, event_id)
  JOIN headrace_workflows_wait w ON w.step_run_id = t.id AND w.taken_at IS NULL
 WHERE NOT EXISTS (SELECT FROM headrace_workflows_event e WHERE e.id = t.event_id)
