-- Running steps whose lease has run out: the worker is lost. The try is noted, a loss is counted, no attempt is spent.
-- After `max_losses` the step is taken over under a new lease, for the caller to record its failure.
-- Parameters: batch, max_losses int, lease, worker uuid, lease_s float8. Returns: the steps. Index: step_run_running.
WITH dead AS (
    SELECT id FROM workflows_steprun WHERE status = 'running' AND lease_until < clock_timestamp()
     ORDER BY lease_until LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), tried AS (
    INSERT INTO workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at, started_at,
                                   ended_at, error)
    SELECT headrace_uuid7(), s.org_id, s.run_id, s.id, s.attempt, 'lost', s.worker_id, s.ready_at, s.started_at,
           clock_timestamp(),
           '{"category": "resource", "name": "WorkerLost", "message": "The worker was lost.", "traceback": ""}'::jsonb
      FROM dead JOIN workflows_steprun s ON s.id = dead.id
)
UPDATE workflows_steprun s
   SET losses = s.losses + 1,
       status = CASE WHEN s.losses + 1 >= %(max_losses)s THEN 'running' ELSE 'ready' END,
       lease_token = CASE WHEN s.losses + 1 >= %(max_losses)s THEN %(lease)s::uuid END,
       lease_until = CASE WHEN s.losses + 1 >= %(max_losses)s THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
       worker_id = CASE WHEN s.losses + 1 >= %(max_losses)s THEN %(worker)s::uuid END,
       deadline_at = NULL, ready_at = clock_timestamp(), dispatched_at = NULL
  FROM dead
 WHERE s.id = dead.id
RETURNING s.id, s.run_id, s.version_id, s.org_id, s.key, s.path, s.index, s.container_id, s.queue, s.type, s.priority, s.attempt, s.needs_total,
          s.needs_met, s.status, s.losses, s.wake_seq, s.told_waits, s.timeout_ms, 0::float8 AS queued_s, true AS unprepared
