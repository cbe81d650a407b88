-- Decide what waits came to: the first who takes one does, for good. Returns those that were taken. Rows are locked in
-- the order of their ids.
-- Parameters: ids uuid[] (of step runs), event_ids uuid[] with nulls (one each), taken_by text, answer text or null
--   (JSON), org uuid or null (only of this organization).
-- Returns: step_run_id uuid.
-- Index: primary key.
WITH held AS MATERIALIZED (
    SELECT w.step_run_id, t.event_id FROM unnest(%(ids)s::uuid[], %(event_ids)s::uuid[]) AS t (id, event_id)
      JOIN headrace_workflows_wait w ON w.step_run_id = t.id AND w.taken_at IS NULL
       AND (%(org)s::uuid IS NULL OR w.org_id = %(org)s::uuid)
     ORDER BY w.step_run_id FOR UPDATE OF w
)
UPDATE headrace_workflows_wait w
   SET taken_at = clock_timestamp(), taken_by = %(taken_by)s, event_id = held.event_id, answer = %(answer)s::jsonb
  FROM held WHERE w.step_run_id = held.step_run_id
RETURNING w.step_run_id
