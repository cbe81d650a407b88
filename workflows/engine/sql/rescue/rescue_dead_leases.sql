-- Running steps whose lease has run out: the worker is lost. The try is noted, a loss is counted, no attempt is spent.
-- A loss counts against a step only where the step was alone in a process that is gone: of several any may be the
-- cause. So a worker's steps are looked at together, when the leases of all have run out (or after `grace_s`, where its
-- others live on). After `max_losses` that count, or `max_all_losses` of any kind (a step whose process takes the
-- worker along is never seen alone), the step is taken over under a new lease, for the caller to record its failure.
-- Returns the steps.
-- Parameters: batch bigint, max_losses int, max_all_losses int, lease uuid, worker uuid, lease_s float8, grace_s
--   float8, silent_s float8.
-- Returns: id uuid, run_id uuid, version_id uuid, org_id uuid, key text, path text, index int or null, container_id
--   uuid or null, queue text, type text, priority int, attempt int, needs_total int, needs_met int, status text, losses
--   int, wake_seq int, server_retry_waits int, timeout_ms int, queued_s float8, needs_prepare bool.
-- Indexes: step_run_running, primary keys.
WITH expired AS MATERIALIZED (
    SELECT id, worker_id, lease_until FROM headrace_workflows_steprun
     WHERE status = 'running' AND lease_until < clock_timestamp()
     ORDER BY lease_until LIMIT %(batch)s
), company AS MATERIALIZED (
    SELECT s.worker_id, count(*) AS steps, max(s.lease_until) AS last_lease
      FROM headrace_workflows_steprun s
     WHERE s.status = 'running' AND s.worker_id IN (SELECT worker_id FROM expired)
     GROUP BY s.worker_id
), dead AS (
    SELECT s.id, COALESCE(c.steps, 1) = 1 AND NOT EXISTS (
               SELECT FROM headrace_workflows_worker w
                WHERE w.id = s.worker_id AND w.seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)
           ) AS alone
      FROM expired e
      JOIN headrace_workflows_steprun s ON s.id = e.id
      LEFT JOIN company c ON c.worker_id = e.worker_id
     WHERE s.status = 'running' AND s.lease_until < clock_timestamp()
       AND (COALESCE(c.last_lease, s.lease_until) < clock_timestamp()
            OR s.lease_until < clock_timestamp() - make_interval(secs => %(grace_s)s))
     ORDER BY s.id
       FOR UPDATE OF s SKIP LOCKED
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, error)
    SELECT headrace_uuid7(), s.org_id, s.run_id, s.id, s.attempt, 'lost', s.worker_id, s.ready_at, s.started_at,
           clock_timestamp(),
           jsonb_build_object('category', 'resource', 'name', 'WorkerLost', 'traceback', '', 'message',
               CASE WHEN dead.alone THEN 'The worker was lost.'
                    ELSE 'The worker was lost. Other steps ran in it: this does not count against the step.' END)
      FROM dead JOIN headrace_workflows_steprun s ON s.id = dead.id
), judged AS (
    SELECT dead.id, dead.alone, dead.alone AND s.solitary_losses + 1 >= %(max_losses)s
                                OR s.losses + 1 >= %(max_all_losses)s AS given_up
      FROM dead JOIN headrace_workflows_steprun s ON s.id = dead.id
)
UPDATE headrace_workflows_steprun s
   SET losses = s.losses + 1,
       solitary_losses = s.solitary_losses + judged.alone::int,
       status = CASE WHEN judged.given_up THEN 'running' ELSE 'ready' END,
       lease_token = CASE WHEN judged.given_up THEN %(lease)s::uuid END,
       lease_until = CASE WHEN judged.given_up THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
       worker_id = CASE WHEN judged.given_up THEN %(worker)s::uuid END,
       deadline_at = NULL, ready_at = clock_timestamp(), dispatched_at = NULL
  FROM judged
 WHERE s.id = judged.id
RETURNING s.id, s.run_id, s.version_id, s.org_id, s.key, s.path, s.index, s.container_id, s.queue, s.type, s.priority,
          s.attempt, s.needs_total, s.needs_met, s.status, s.losses, s.wake_seq, s.told_waits AS server_retry_waits,
          s.timeout_ms, 0::float8 AS queued_s, true AS needs_prepare
