-- An event moves the run that waits for quiet: it starts a period later, but not after its timeout, and gets the
-- event's data unless it has a later one's. A run of which a step has woken is left alone.
-- Parameters: flow uuid, key text, input text, event_name text, user_id text, priority int, event_id uuid or null,
--   tags text[], received_at timestamptz, period_s float8, timeout_s float8 or null (none), start_ms bigint or null.
-- Returns: id uuid, replaced bool (its data is that of the event now).
-- Indexes: run_gathers, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH found AS MATERIALIZED (
    SELECT r.id, r.created_at, COALESCE(r.newest_at <= %(received_at)s::timestamptz, true) AS replaced
      FROM headrace_workflows_run r
     WHERE r.flow_id = %(flow)s AND r.gather_key = %(key)s AND r.gather_key <> '' AND r.status = 'queued'
       AND r.cancel_requested_at IS NULL
       FOR UPDATE OF r
), asleep AS MATERIALIZED (
    SELECT s.id, s.run_id FROM found JOIN headrace_workflows_steprun s ON s.run_id = found.id
     WHERE s.status || '' = 'waiting' AND s.waiting_for = 'delay' ORDER BY s.id FOR UPDATE OF s
), whole AS MATERIALIZED (
    SELECT found.* FROM found
     WHERE (SELECT count(*) FROM asleep)
         = (SELECT count(*) FROM headrace_workflows_steprun s WHERE s.run_id = found.id AND s.needs_total = 0)
), moved AS (
    UPDATE headrace_workflows_steprun s
       SET wake_at = least(clock_timestamp() + make_interval(secs => %(period_s)s),
                           whole.created_at + make_interval(secs => %(timeout_s)s::float8)),
           priority = CASE WHEN whole.replaced THEN %(priority)s ELSE s.priority END
      FROM asleep, whole
     WHERE s.id = asleep.id
    RETURNING s.run_id, s.wake_at
)
UPDATE headrace_workflows_run r
   SET input = CASE WHEN whole.replaced THEN %(input)s::jsonb ELSE r.input END,
       event_id = CASE WHEN whole.replaced THEN %(event_id)s::uuid ELSE r.event_id END,
       event_name = CASE WHEN whole.replaced THEN %(event_name)s ELSE r.event_name END,
       user_id = CASE WHEN whole.replaced THEN %(user_id)s ELSE r.user_id END,
       priority = CASE WHEN whole.replaced THEN %(priority)s ELSE r.priority END,
       tags = CASE WHEN whole.replaced THEN %(tags)s::text[] ELSE r.tags END,
       newest_at = greatest(r.newest_at, %(received_at)s::timestamptz), gathered = r.gathered + 1,
       timeout_at = (SELECT min(wake_at) FROM moved) + make_interval(secs => %(start_ms)s::bigint / 1000.0)
  FROM whole
 WHERE r.id = whole.id
RETURNING r.id, whole.replaced
