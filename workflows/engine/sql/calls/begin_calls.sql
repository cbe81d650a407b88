-- A visited function asks for steps that are not in its journal. They are inserted: running, under a lease of this
-- visit's worker, or ready, to be dispatched. The step that was performed before them in the same visit is recorded as
-- completed by the way. Nothing happens where the visit has lost its lease, or where its run is to stop. Returns the
-- steps that were inserted, and the one that was recorded.
-- Parameters: function uuid (the step run), function_lease uuid, calls text (a JSON array of {id, key, type, queue,
--   timeout_ms, position}), status text (running, ready), lease uuid, worker uuid, lease_s float8, ended uuid or null,
--   ended_lease uuid or null, output text or null, input text or null, logs text or null (JSON), ran float8 or null
--   (seconds since the handler of the one that ended began).
-- Returns: id uuid, is_new bool.
-- Indexes: primary keys, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH visit AS MATERIALIZED (
    SELECT s.id, s.org_id, s.run_id, s.version_id, s.key, s.priority
      FROM headrace_workflows_steprun s JOIN headrace_workflows_run r ON r.id = s.run_id
     WHERE s.id = %(function)s AND s.status || '' = 'running' AND s.lease_token = %(function_lease)s
       AND r.ended_at IS NULL AND r.error IS NULL AND r.cancel_requested_at IS NULL
), ended AS (
    UPDATE headrace_workflows_steprun s
       SET status = 'completed', output = %(output)s::text::jsonb, reason = '', waiting_for = '', wake_at = NULL,
           lease_token = NULL, lease_until = NULL, deadline_at = NULL, ended_at = clock_timestamp(),
           started_at = COALESCE(greatest(clock_timestamp() - make_interval(secs => %(ran)s), s.ready_at), s.started_at)
      FROM visit
     WHERE s.id = %(ended)s AND s.status || '' = 'running' AND s.lease_token = %(ended_lease)s
    RETURNING s.id, s.org_id, s.run_id, s.attempt, s.worker_id, s.ready_at, s.started_at
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, input, logs)
    SELECT headrace_uuid7(), e.org_id, e.run_id, e.id, e.attempt, 'completed', e.worker_id, e.ready_at, e.started_at,
           clock_timestamp(), %(input)s::text::jsonb, %(logs)s::text::jsonb
      FROM ended e
), new AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, key, path, container_id, position, type,
                                            queue, priority, status, attempt, losses, told_waits, needs_total,
                                            needs_left, needs_met, is_sink, timeout_ms, wake_seq, waiting_for,
                                            dispatch_count, lease_token, lease_until, worker_id, deadline_at,
                                            created_at, ready_at, started_at)
    SELECT c.id, v.org_id, v.run_id, v.version_id, c.key, v.key, v.id, c.position, c.type, c.queue, v.priority,
           %(status)s::text, 1, 0, 0, 0, 0, 0, false, c.timeout_ms, 0, '', 0,
           CASE WHEN %(status)s::text = 'running' THEN %(lease)s::uuid END,
           CASE WHEN %(status)s::text = 'running' THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
           CASE WHEN %(status)s::text = 'running' THEN %(worker)s::uuid END,
           CASE WHEN %(status)s::text = 'running'
                THEN clock_timestamp() + make_interval(secs => c.timeout_ms / 1000.0) END,
           clock_timestamp(), clock_timestamp(), CASE WHEN %(status)s::text = 'running' THEN clock_timestamp() END
      FROM visit v
     CROSS JOIN json_to_recordset(%(calls)s::json) AS c (id uuid, key text, type text, queue text, timeout_ms int,
           position int)
     WHERE %(ended)s::uuid IS NULL OR EXISTS (SELECT FROM ended)
     ORDER BY c.position
        ON CONFLICT (run_id, key, path) DO NOTHING
    RETURNING id
)
SELECT id, true AS is_new FROM new
UNION ALL
SELECT id, false FROM ended
