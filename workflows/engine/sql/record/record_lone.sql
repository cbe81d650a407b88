-- Record that a step has completed whose only successor needs nothing else: the short form of `record_outcomes`, for a
-- step alone. Nothing is changed, and nothing returned, where this worker has lost the step's lease, or its run is
-- cancelled or bound to fail: then the long form decides. Returns a row of the kind 'recorded', and one of the kind
-- 'next' for the successor, which is ready or running now.
-- Parameters: id uuid, lease uuid, output text or null, input text or null, logs text or null (JSON as text), ran
--   float8 or null (seconds since the handler began), target text (the successor's key), weight int (what its
--   needs_met gets, at least 1), claim bool (continue in this visit), publish bool (the caller publishes after the
--   commit), next_lease uuid, worker uuid, lease_s float8 (these for a successor that is claimed).
-- Returns: kind text (recorded, next), id uuid, run_id uuid, version_id uuid or null, org_id uuid or null, status text,
--   key text, path text, index int or null, container_id uuid or null, attempt int, needs_met int, needs_total int,
--   wake_seq int, losses int, server_retry_waits int, timeout_ms int, queue text, type text, priority int, queued_s
--   float8, needs_prepare bool, stopping bool.
-- Indexes: primary keys, step_run_identity (run, key, path). (`status || ''`: see `record_outcomes`.)
WITH done AS (
    UPDATE headrace_workflows_steprun s
       SET status = 'completed', output = %(output)s::text::jsonb, reason = '', waiting_for = '', wake_at = NULL,
           lease_token = NULL, lease_until = NULL, deadline_at = NULL,
           started_at = COALESCE(greatest(clock_timestamp() - make_interval(secs => %(ran)s::float8), s.ready_at),
                                 s.started_at),
           ended_at = clock_timestamp()
      FROM headrace_workflows_run r
     WHERE s.id = %(id)s AND s.status || '' = 'running' AND s.lease_token = %(lease)s
       AND r.id = s.run_id AND r.error IS NULL AND r.cancel_requested_at IS NULL
    RETURNING s.id, s.org_id, s.run_id, s.attempt, s.worker_id, s.ready_at, s.started_at, s.ended_at,
              CASE WHEN (s.kept_logs ->> 'try')::int = s.attempt + s.told_waits THEN s.kept_logs -> 'lines' END AS kept
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, input, logs)
    SELECT headrace_uuid7(), d.org_id, d.run_id, d.id, d.attempt, 'completed', d.worker_id, d.ready_at, d.started_at,
           d.ended_at, %(input)s::text::jsonb,
           CASE WHEN d.kept IS NULL THEN %(logs)s::text::jsonb
                ELSE d.kept || COALESCE(%(logs)s::text::jsonb, '[]') END
      FROM done d
), next AS (
    UPDATE headrace_workflows_steprun s
       SET needs_left = 0, needs_met = s.needs_met + %(weight)s,
           status = CASE WHEN %(claim)s THEN 'running' ELSE 'ready' END,
           worker_id = CASE WHEN %(claim)s THEN %(worker)s::uuid END,
           ready_at = clock_timestamp(),
           started_at = CASE WHEN %(claim)s THEN clock_timestamp() END,
           lease_token = CASE WHEN %(claim)s THEN %(next_lease)s::uuid END,
           lease_until = CASE WHEN %(claim)s THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
           deadline_at = CASE WHEN %(claim)s
                              THEN clock_timestamp() + make_interval(secs => s.timeout_ms / 1000.0) END,
           dispatched_at = CASE WHEN %(publish)s THEN clock_timestamp() END,
           dispatch_count = s.dispatch_count + %(publish)s::int
      FROM done d
     WHERE s.run_id = d.run_id AND s.key = %(target)s AND s.path = '' AND s.status = 'pending' AND s.needs_left = 1
    RETURNING s.*
)
SELECT 'recorded' AS kind, d.id, d.run_id, NULL::uuid AS version_id, NULL::uuid AS org_id, 'completed' AS status,
       '' AS key, '' AS path, NULL::int AS index, NULL::uuid AS container_id, d.attempt, 0 AS needs_met,
       0 AS needs_total, 0 AS wake_seq, 0 AS losses, 0 AS server_retry_waits, 0 AS timeout_ms, '' AS queue, '' AS type,
       0 AS priority, 0::float8 AS queued_s, false AS needs_prepare, false AS stopping
  FROM done d
UNION ALL
SELECT 'next', n.id, n.run_id, n.version_id, n.org_id, n.status, n.key, n.path, n.index, n.container_id, n.attempt,
       n.needs_met, n.needs_total, n.wake_seq, n.losses, n.told_waits, n.timeout_ms, n.queue, n.type, n.priority,
       0::float8, n.dispatched_at IS NULL, false
  FROM next n
