-- Record a group of outcomes in one statement: the steps, their attempts, the successors, the runs. What comes after
-- its run was cancelled is recorded as cancelled, whatever it was (but for steps that undo others). A row counts only
-- where this worker still holds its lease (or, for a skip, where the step is still ready; for a wait that is over,
-- where it still waits for that); what follows from it is derived from the rows that really changed. Successors are
-- touched in the order (run, key), runs in the order of their ids, so that recorders can't deadlock; the counters are
-- decremented, never recounted, so that parents recorded at the same instant can't lose a join. Returns rows of three
-- kinds: 'recorded' per recorded outcome, 'next' per successor that is ready or running now, 'run' per run that ended
-- or is bound to fail. (One JSON parameter is far cheaper to send than twenty arrays.)
-- Lines that a try has logged before it waited are kept with its step, until its attempt is recorded with them.
-- Parameters: outcomes text (a JSON array of {id, run, lease (absent: a skip of a ready step), status (completed failed
--   skipped cancelled waiting ready), waited_for (of a step that no worker has), reason (of a skip), logs (JSON as
--   text), waiting_for ('' sleep retry event approval run), wake_in (seconds), output, input, error (JSON as text),
--   fatal (the failure fails the run), compensation (a step that undoes others), spends (the next try has the next
--   number), by_server (the other side named the pause), ran (seconds since the handler began)}), edges text (a JSON
--   array of {source, target, weight (what the target's needs_met gets: 1, 0, or far less for a branch that was not
--   taken; see engine/state/needs.py), claim (continue in this visit), publish (the caller publishes after the
--   commit)}), lease uuid, worker uuid, lease_s float8 (these for the successors claimed at once).
-- Returns: kind text (recorded, next, run), id uuid, run_id uuid or null (of a run that ended: the one that started
--   it), version_id uuid or null, org_id uuid or null, status text, key text, path text, index int or null,
--   container_id uuid or null, attempt int, needs_met int, needs_total int, wake_seq int, losses int,
--   server_retry_waits int, timeout_ms int, queue text, type text, priority int, queued_s float8, needs_prepare bool,
--   stopping bool.
-- Indexes: primary keys, step_run_identity (run, key, path). (`status || ''` hides the partial indexes of all running
--   and ready steps from the planner: it must look rows up by their ids, however few it believes there are.)
WITH outcome AS (
    SELECT o.id, o.lease, CASE WHEN late THEN 'cancelled' ELSE o.status END AS status,
           CASE WHEN late THEN '' ELSE COALESCE(o.waiting_for, '') END AS waiting_for, o.wake_in,
           CASE WHEN NOT late THEN o.output::jsonb END AS output,
           o.input::jsonb AS input, o.error::jsonb AS error, o.logs::jsonb AS logs,
           CASE WHEN late THEN 'came after the cancel: ' || o.status ELSE COALESCE(o.reason, '') END AS reason,
           COALESCE(o.fatal, false) AS fatal, COALESCE(o.spends, false) AND NOT late AS spends,
           COALESCE(o.by_server, false) AS by_server, o.ran, o.waited_for
      FROM json_to_recordset(%(outcomes)s::json) AS o (id uuid, run uuid, lease uuid, status text, waiting_for text,
           wake_in float8, output text, input text, error text, logs text, reason text, compensation bool, fatal bool,
           spends bool, by_server bool, ran float8, waited_for text)
      JOIN headrace_workflows_run r ON r.id = o.run
     CROSS JOIN LATERAL (SELECT r.cancel_requested_at IS NOT NULL AND o.compensation IS NULL
                                AND o.status NOT IN ('skipped', 'cancelled') AS late) l
), done AS (
    UPDATE headrace_workflows_steprun s
       SET status = o.status,
           output = o.output,
           reason = o.reason,
           waiting_for = o.waiting_for,
           wake_at = CASE WHEN o.status = 'waiting' THEN clock_timestamp() + make_interval(secs => o.wake_in) END,
           attempt = s.attempt + o.spends::int,
           told_waits = s.told_waits + o.by_server::int,
           lease_token = NULL, lease_until = NULL, deadline_at = NULL,
           started_at = COALESCE(greatest(clock_timestamp() - make_interval(secs => o.ran), s.ready_at), s.started_at),
           dispatched_at = CASE WHEN o.status = 'ready' THEN NULL ELSE s.dispatched_at END,
           kept_logs = CASE WHEN o.logs IS NULL OR o.status <> 'waiting' OR o.waiting_for = 'retry' THEN s.kept_logs
                            WHEN (s.kept_logs ->> 'try')::int = s.attempt + s.told_waits
                                 AND octet_length((s.kept_logs -> 'lines')::text) > 32000
                            THEN s.kept_logs  -- full: the same value is not written again
                            ELSE (SELECT jsonb_build_object('try', s.attempt + s.told_waits, 'lines', CASE
                                         WHEN k.lines IS NULL THEN o.logs
                                         WHEN octet_length(k.lines::text) + octet_length(o.logs::text) <= 32000
                                         THEN k.lines || o.logs
                                         ELSE k.lines || o.logs || jsonb_build_object('at', clock_timestamp(), 'level',
                                              'info', 'message', '… and later lines until its end') END)
                                    FROM (SELECT CASE WHEN (s.kept_logs ->> 'try')::int = s.attempt + s.told_waits
                                                      THEN s.kept_logs -> 'lines' END AS lines) k) END,
           ended_at = CASE WHEN o.status IN ('completed', 'failed', 'skipped', 'cancelled') THEN clock_timestamp() END
      FROM outcome o
     WHERE s.id = o.id
       AND ((s.status || '' = 'running' AND s.lease_token = o.lease)
            OR (o.lease IS NULL AND o.waited_for IS NULL AND o.status = 'skipped' AND s.status || '' = 'ready')
            OR (o.lease IS NULL AND s.status || '' = 'waiting' AND s.waiting_for = o.waited_for))
    RETURNING s.id, s.org_id, s.run_id, s.key, s.path, s.status, s.attempt, s.worker_id, s.ready_at, s.started_at,
              s.is_sink, o.lease, o.waiting_for, o.input, o.error, o.fatal, o.spends,
              CASE WHEN (s.kept_logs ->> 'try')::int = s.attempt + s.told_waits - o.spends::int - o.by_server::int
                        AND (o.status <> 'waiting' OR o.waiting_for = 'retry')
                   THEN (s.kept_logs -> 'lines') || COALESCE(o.logs, '[]') ELSE o.logs END AS logs
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, input, error, logs)
    SELECT headrace_uuid7(), d.org_id, d.run_id, d.id, d.attempt - d.spends::int,
           CASE WHEN d.status IN ('completed', 'cancelled') THEN d.status ELSE 'failed' END, d.worker_id, d.ready_at,
           d.started_at, clock_timestamp(), d.input, d.error, d.logs
      FROM done d
     WHERE d.status IN ('completed', 'failed') OR (d.status = 'cancelled' AND d.lease IS NOT NULL)
        OR d.waiting_for = 'retry'
), edge AS MATERIALIZED (
    SELECT d.run_id, d.path, e.target, count(*)::int AS decided,
           sum(e.weight)::int AS met, bool_and(e.claim) AS claim, bool_and(e.publish) AS publish
      FROM json_to_recordset(%(edges)s::json) AS e (source uuid, target text, weight int, claim bool, publish bool)
      JOIN done d ON d.id = e.source
      JOIN headrace_workflows_run r ON r.id = d.run_id AND r.error IS NULL AND r.cancel_requested_at IS NULL
     WHERE d.status IN ('completed', 'failed', 'skipped')
     GROUP BY d.run_id, d.path, e.target
     ORDER BY d.run_id, e.target
), next AS (
    UPDATE headrace_workflows_steprun s
       SET needs_left = s.needs_left - edge.decided,
           needs_met = s.needs_met + edge.met,
           status = CASE WHEN s.needs_left > edge.decided THEN 'pending'
                         WHEN edge.claim AND s.needs_met + edge.met > 0 THEN 'running' ELSE 'ready' END,
           worker_id = CASE WHEN edge.claim THEN %(worker)s::uuid END,
           (ready_at, started_at, lease_token, lease_until, deadline_at, dispatched_at, dispatch_count) = (
               SELECT CASE WHEN new.is_decided THEN clock_timestamp() END,
                      CASE WHEN new.is_claimed THEN clock_timestamp() END,
                      CASE WHEN new.is_claimed THEN %(lease)s::uuid END,
                      CASE WHEN new.is_claimed THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
                      CASE WHEN new.is_claimed
                           THEN clock_timestamp() + make_interval(secs => s.timeout_ms / 1000.0) END,
                      CASE WHEN new.is_published THEN clock_timestamp() END,
                      s.dispatch_count + new.is_published::int
                 FROM (SELECT is_decided, is_decided AND edge.claim AND is_met AS is_claimed,
                              is_decided AND edge.publish AND is_met AS is_published
                         FROM (SELECT s.needs_left = edge.decided AS is_decided,
                                      s.needs_met + edge.met > 0 AS is_met) met) new)
      FROM edge
     WHERE s.run_id = edge.run_id AND s.key = edge.target AND s.path = edge.path AND s.status = 'pending'
    RETURNING s.*
), touched AS (
    SELECT run_id,
           count(*) FILTER (WHERE is_sink AND path = '' AND status IN ('completed', 'failed', 'skipped'))::int AS sinks,
           (array_agg(error || jsonb_build_object('step', key)) FILTER (WHERE fatal AND status = 'failed'))[1] AS error
      FROM done
     WHERE status IN ('completed', 'failed', 'skipped') AND path = '' AND (is_sink OR fatal)
     GROUP BY run_id
     ORDER BY run_id
), runs AS (
    UPDATE headrace_workflows_run r
       SET sinks_left = r.sinks_left - t.sinks,
           error = COALESCE(r.error, t.error),
           status = CASE WHEN r.sinks_left = t.sinks AND r.error IS NULL AND t.error IS NULL
                              AND r.cancel_requested_at IS NULL THEN 'completed' ELSE r.status END,
           ended_at = CASE WHEN r.sinks_left = t.sinks AND r.error IS NULL AND t.error IS NULL
                                AND r.cancel_requested_at IS NULL THEN clock_timestamp() END
      FROM touched t
     WHERE r.id = t.run_id AND r.ended_at IS NULL
    RETURNING r.id, r.status, r.version_id, r.parent_id,
              r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL AS stopping
)
SELECT 'recorded' AS kind, d.id, d.run_id, NULL::uuid AS version_id, NULL::uuid AS org_id, d.status, '' AS key,
       '' AS path, NULL::int AS index, NULL::uuid AS container_id, d.attempt, 0 AS needs_met, 0 AS needs_total,
       0 AS wake_seq, 0 AS losses, 0 AS server_retry_waits, 0 AS timeout_ms, '' AS queue, '' AS type, 0 AS priority,
       0::float8 AS queued_s, false AS needs_prepare, false AS stopping
  FROM done d
UNION ALL
SELECT 'next', n.id, n.run_id, n.version_id, n.org_id, n.status, n.key, n.path, n.index, n.container_id, n.attempt,
       n.needs_met, n.needs_total, n.wake_seq, n.losses, n.told_waits AS server_retry_waits, n.timeout_ms, n.queue,
       n.type, n.priority, 0::float8, n.dispatched_at IS NULL, false
  FROM next n WHERE n.status <> 'pending'
UNION ALL
SELECT 'run', r.id, r.parent_id, r.version_id, NULL, r.status, '', '', NULL, NULL, 0, 0, 0, 0, 0, 0, 0, '', '', 0, 0,
       false, r.stopping
  FROM runs r WHERE r.status NOT IN ('queued', 'running') OR r.stopping
UNION ALL
SELECT DISTINCT 'run', r.id, r.id, r.version_id, NULL::uuid, r.status, '', '', NULL::int, NULL::uuid, 0, 0, 0, 0, 0, 0,
                0, '', '', 0, 0, false, true
  FROM done d JOIN headrace_workflows_run r ON r.id = d.run_id
 WHERE r.ended_at IS NULL AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)
