-- Heartbeat: renew the leases that this worker really holds. Rows that are being recorded right now are passed over.
-- Returns a row for each lease that was renewed; a missing one is lost (or just ended).
-- Parameters: ids uuid[], leases uuid[] with nulls, lease_s float8.
-- Returns: id uuid, cancelled bool (the run was cancelled).
-- Index: primary key.
WITH held AS (
    SELECT s.id, s.run_id FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS w (id, lease)
      JOIN headrace_workflows_steprun s ON s.id = w.id
     WHERE s.status = 'running' AND s.lease_token = w.lease
     ORDER BY s.id
       FOR UPDATE OF s SKIP LOCKED
)
UPDATE headrace_workflows_steprun s SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
  FROM held, headrace_workflows_run r
 WHERE s.id = held.id AND r.id = held.run_id
RETURNING s.id, r.cancel_requested_at IS NOT NULL AND NOT s.is_hook AS cancelled
