-- An event moves the run that waits for quiet: it gets its data, and starts a period later, but not after its timeout.
-- A run whose steps have woken is left alone. Parameters: flow uuid, key, input, event_name, user_id text; priority int;
--   event_id uuid; period_s, timeout_s float8 (null: none), start_ms bigint or null.
-- Returns: id, replaced (the event that it had). Indexes: run_gathers, step_run_identity.
WITH found AS (
    SELECT r.id, r.event_id AS replaced, r.created_at FROM workflows_run r
     WHERE r.flow_id = %(flow)s AND r.gather_key = %(key)s AND r.gather_key <> '' AND r.status = 'queued'
       AND r.cancel_requested_at IS NULL
       FOR UPDATE OF r
), moved AS (
    UPDATE workflows_steprun s
       SET wake_at = least(clock_timestamp() + make_interval(secs => %(period_s)s),
                           found.created_at + make_interval(secs => %(timeout_s)s::float8)),
           priority = %(priority)s
      FROM found
     WHERE s.run_id = found.id AND s.status || '' = 'waiting' AND s.waiting_for = 'delay'
    RETURNING s.run_id, s.wake_at
)
UPDATE workflows_run r
   SET input = %(input)s::jsonb, event_id = %(event_id)s::uuid, event_name = %(event_name)s, user_id = %(user_id)s,
       priority = %(priority)s, gathered = r.gathered + 1,
       timeout_at = moved.wake_at + make_interval(secs => %(start_ms)s::bigint / 1000.0)
  FROM found, (SELECT run_id, min(wake_at) AS wake_at FROM moved GROUP BY run_id) moved
 WHERE r.id = found.id AND moved.run_id = found.id
RETURNING r.id, found.replaced
