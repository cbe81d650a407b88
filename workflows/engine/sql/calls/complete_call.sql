-- A step of a function that is performed in a transaction of its own has completed: record it in that transaction.
-- Nothing happens where its lease is lost: the caller rolls back then. Returns the step.
-- Parameters: id uuid, lease uuid, output text or null, logs text or null (both JSON), ran float8 (seconds since its
--   handler began).
-- Returns: id uuid.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH done AS (
    UPDATE headrace_workflows_steprun s
       SET status = 'completed', output = %(output)s::text::jsonb, reason = '', waiting_for = '', wake_at = NULL,
           lease_token = NULL, lease_until = NULL, deadline_at = NULL, ended_at = clock_timestamp(),
           started_at = greatest(clock_timestamp() - make_interval(secs => %(ran)s), s.ready_at)
      FROM headrace_workflows_run r
     WHERE s.id = %(id)s AND s.status || '' = 'running' AND s.lease_token = %(lease)s AND r.id = s.run_id
       AND r.cancel_requested_at IS NULL AND r.ended_at IS NULL
    RETURNING s.id, s.org_id, s.run_id, s.attempt, s.worker_id, s.ready_at, s.started_at
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, logs)
    SELECT headrace_uuid7(), d.org_id, d.run_id, d.id, d.attempt, 'completed', d.worker_id, d.ready_at, d.started_at,
           clock_timestamp(), %(logs)s::text::jsonb
      FROM done d
)
SELECT id FROM done
