-- ready → running for a batch, with a fresh lease; starts the runs that were still queued. Where its steps change
-- nothing outside of this database, the commit is asynchronous: after a crash of Postgres they are still ready, and
-- what they did is lost with the claim. Else it is as durable as any other: a try that may have done something outside
-- is in the history, as lost (docs/adr/0012-durable-claims.md). Returns a row for each step that was claimed; one that
-- did not change belongs to another worker. A run is live while ended_at is null, and a step's status is compared as an
-- expression: else the planner may choose the partial index of all live runs or ready steps.
-- Parameters: pure text[] (the types that change nothing outside), ids text[] (step runs), attempts int[] with nulls
--   (as dispatched; null for a step that the gate handed over), lease uuid, worker uuid, lease_s float8.
-- Returns: id uuid, run_id uuid, version_id uuid, org_id uuid, key text, path text, index int or null, container_id
--   uuid or null, attempt int, wake_seq int, losses int, server_retry_waits int, timeout_ms int, queue text, type text,
--   priority int, queued_s float8, needs_met int, needs_total int, dispatched_at float8 or null, run_status text,
--   run_trigger text, run_event text, run_event_id uuid or null, run_awaited bool.
-- Indexes: primary keys. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH wanted AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS w (id, attempt)
     ORDER BY id
), claimed AS (
    UPDATE headrace_workflows_steprun s
       SET status = 'running', waiting_for = '', lease_token = %(lease)s,
           lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
           worker_id = %(worker)s, started_at = clock_timestamp(),
           deadline_at = clock_timestamp() + make_interval(secs => s.timeout_ms / 1000.0)
      FROM wanted w, headrace_workflows_run r
     WHERE s.id = w.id AND (w.attempt IS NULL OR s.attempt = w.attempt) AND s.status || '' = 'ready' AND r.id = s.run_id
       AND r.ended_at IS NULL AND (s.is_hook OR (r.error IS NULL AND r.cancel_requested_at IS NULL))
    RETURNING s.id, s.run_id, s.version_id, s.org_id, s.key, s.path, s.index, s.container_id, s.attempt, s.wake_seq,
              s.losses, s.told_waits AS server_retry_waits, s.timeout_ms, s.queue, s.type, s.priority,
              extract(epoch FROM clock_timestamp() - s.ready_at)::float8 AS queued_s, s.needs_met, s.needs_total,
              extract(epoch FROM s.dispatched_at)::float8 AS dispatched_at, r.status AS run_status,
              r.trigger AS run_trigger, r.event_name AS run_event, r.event_id AS run_event_id, r.awaited AS run_awaited
), begun AS (
    UPDATE headrace_workflows_run r SET status = 'running', started_at = clock_timestamp(),
           timeout_at = clock_timestamp() + make_interval(secs => r.finish_ms / 1000.0)
      FROM (SELECT DISTINCT run_id FROM claimed WHERE run_status = 'queued' ORDER BY run_id) c
     WHERE r.id = c.run_id AND r.status || '' = 'queued'
), durable AS MATERIALIZED (
    SELECT set_config('synchronous_commit', CASE WHEN bool_and(type = ANY (%(pure)s::text[])) THEN 'off'
                                                 ELSE current_setting('synchronous_commit') END, true)
      FROM claimed
)
SELECT claimed.* FROM durable, claimed
