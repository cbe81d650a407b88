-- Events join the run that gathers them, while there is room in it; a run that is full by them starts at once. A run of
-- which a step has woken is left alone.
-- Parameters: flow uuid, key text, events text (a JSON array), number int (of these events), max_size int, max_bytes
--   int.
-- Returns: id uuid.
-- Indexes: run_gathers, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH found AS MATERIALIZED (
    SELECT r.id, r.gathered FROM headrace_workflows_run r
     WHERE r.flow_id = %(flow)s AND r.gather_key = %(key)s AND r.gather_key <> '' AND r.status = 'queued'
       AND r.cancel_requested_at IS NULL AND r.gathered + %(number)s <= %(max_size)s
       AND octet_length(r.input::text) + octet_length(%(events)s) <= %(max_bytes)s
       FOR UPDATE OF r
), asleep AS MATERIALIZED (
    SELECT s.id FROM found JOIN headrace_workflows_steprun s ON s.run_id = found.id
     WHERE s.status || '' = 'waiting' AND s.waiting_for = 'delay' ORDER BY s.id FOR UPDATE OF s
), whole AS MATERIALIZED (
    SELECT found.* FROM found
     WHERE (SELECT count(*) FROM asleep)
         = (SELECT count(*) FROM headrace_workflows_steprun s WHERE s.run_id = found.id AND s.needs_total = 0)
), steps AS (
    UPDATE headrace_workflows_steprun s
       SET wake_at = CASE WHEN whole.gathered + %(number)s >= %(max_size)s THEN clock_timestamp() ELSE s.wake_at END
      FROM asleep, whole
     WHERE s.id = asleep.id
)
UPDATE headrace_workflows_run r
   SET input = jsonb_set(r.input, '{events}', r.input->'events' || %(events)s::jsonb),
       gathered = r.gathered + %(number)s,
       gather_key = CASE WHEN r.gathered + %(number)s >= %(max_size)s THEN '' ELSE r.gather_key END
  FROM whole
 WHERE r.id = whole.id
RETURNING r.id
