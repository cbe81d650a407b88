-- Decide what waits came to: the first who takes one does, for good. Returns those that were taken. Rows are locked
-- in the order of their ids. A wait is not taken by an event that retention has deleted since it was found: matched
-- ones are locked here, and once the wait has one, it keeps it. (Those that are matched at this moment are not
-- deleted.)
-- Parameters: ids uuid[] (of step runs), event_ids uuid[] with nulls (one each), taken_by text, answer text or null
--   (JSON), org uuid or null (only of this organization).
-- Returns: step_run_id uuid.
-- Indexes: primary keys.
WITH matched AS MATERIALIZED (
    SELECT e.id FROM headrace_workflows_event e
     WHERE e.id = ANY (%(event_ids)s::uuid[]) AND e.matched_at IS NOT NULL ORDER BY e.id FOR KEY SHARE
), there AS MATERIALIZED (
    SELECT id FROM matched
    UNION ALL
    SELECT e.id FROM headrace_workflows_event e WHERE e.id = ANY (%(event_ids)s::uuid[]) AND e.matched_at IS NULL
), held AS MATERIALIZED (
    SELECT w.step_run_id, t.event_id FROM unnest(%(ids)s::uuid[], %(event_ids)s::uuid[]) AS t (id, event_id)
      JOIN headrace_workflows_wait w ON w.step_run_id = t.id AND w.taken_at IS NULL
       AND (%(org)s::uuid IS NULL OR w.org_id = %(org)s::uuid)
     WHERE t.event_id IS NULL OR t.event_id IN (SELECT id FROM there)
     ORDER BY w.step_run_id FOR UPDATE OF w
)
UPDATE headrace_workflows_wait w
   SET taken_at = clock_timestamp(), taken_by = %(taken_by)s, event_id = held.event_id, answer = %(answer)s::jsonb
  FROM held WHERE w.step_run_id = held.step_run_id
RETURNING w.step_run_id
