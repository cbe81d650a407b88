-- Open the next items of containers, as many as they have room for: the steps of each become ready (or sleep for the
-- container's pause), or wait for their needs; those that an item's plan takes over have ended already. The caller's
-- transaction holds the containers' rows from here on. Returns the ready steps, to be dispatched.
-- Parameters: ids uuid[] (of containers), paused bool (something has ended before).
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, needs_prepare bool.
-- Indexes: primary keys, step_key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH fan AS MATERIALIZED (
    SELECT f.*, s.version_id, s.key, s.path, s.priority
      FROM headrace_workflows_fanout f JOIN headrace_workflows_steprun s ON s.id = f.step_run_id
          AND s.status || '' = 'waiting'
     WHERE f.step_run_id = ANY (%(ids)s::uuid[]) AND NOT f.stopping AND f.open < f.parallelism
       AND f.next_index < f.total
     ORDER BY f.step_run_id FOR UPDATE OF f
), chosen AS MATERIALIZED (
    SELECT i.container_id, i.index, i.plan FROM fan f
     CROSS JOIN LATERAL (SELECT i.container_id, i.index, i.plan FROM headrace_workflows_item i
                          WHERE i.container_id = f.step_run_id AND i.index >= f.next_index AND i.status = 'pending'
                          ORDER BY i.index LIMIT f.parallelism - f.open) i
), opened AS (
    UPDATE headrace_workflows_item i SET status = 'open', sinks_left = COALESCE((c.plan->>'sinks')::int, f.body_sinks)
      FROM chosen c JOIN fan f ON f.step_run_id = c.container_id
     WHERE i.container_id = c.container_id AND i.index = c.index
), counted AS (
    UPDATE headrace_workflows_fanout f
       SET open = f.open + c.number, next_index = c.next_index, changed_at = clock_timestamp()
      FROM (SELECT container_id, count(*)::int AS number, max(index) + 1 AS next_index FROM chosen
            GROUP BY container_id) c
     WHERE f.step_run_id = c.container_id
), steps AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, index, container_id,
                                            position, type, queue, priority, status, attempt, losses, told_waits,
                                            needs_total, needs_left, needs_met, is_sink, timeout_ms, wake_at, wake_seq,
                                            waiting_for, dispatch_count, created_at, ready_at, started_at, ended_at,
                                            output, reason, memoized_from)
    SELECT headrace_uuid7(), f.org_id, f.run_id, f.version_id, st.id, st.key,
           f.path || CASE WHEN f.path = '' THEN '' ELSE '/' END || f.key || '[' || c.index || ']', c.index,
           c.container_id, st.position, st.type, st.queue, f.priority,
           CASE WHEN n.status = 'ready' AND n.paused THEN 'waiting' ELSE n.status END,
           COALESCE(o.attempt, 1), 0, 0, cardinality(st.needs), n.needs_left, n.needs_met, st.is_sink, st.timeout_ms,
           CASE WHEN n.status = 'ready' AND n.paused
                THEN clock_timestamp() + make_interval(secs => f.pause_ms / 1000.0) END, 0,
           CASE WHEN n.status = 'ready' AND n.paused THEN 'pause' ELSE '' END, 0, clock_timestamp(),
           CASE WHEN n.status = 'ready' AND NOT n.paused THEN clock_timestamp() ELSE o.ready_at END, o.started_at,
           o.ended_at, o.output, COALESCE(o.reason, ''), COALESCE(o.memoized_from, o.id)
      FROM chosen c
      JOIN fan f ON f.step_run_id = c.container_id
      JOIN headrace_workflows_step st ON st.version_id = f.version_id AND st.container = f.key
     CROSS JOIN LATERAL (SELECT c.plan->'steps'->st.key::text AS plan) p
      LEFT JOIN headrace_workflows_steprun o ON o.id = (p.plan->>'source')::uuid
     CROSS JOIN LATERAL (
        SELECT COALESCE(p.plan->>'status',
                        CASE WHEN cardinality(st.needs) > 0 THEN 'pending' ELSE 'ready' END) AS status,
               COALESCE((p.plan->>'left')::int, cardinality(st.needs)) AS needs_left,
               COALESCE((p.plan->>'met')::int, 0) AS needs_met, f.pause_ms > 0 AND %(paused)s AS paused) n
     ORDER BY c.container_id, c.index, st.position
    RETURNING id, run_id, version_id, key, path, queue, type, priority, status, attempt, needs_total, needs_met
)
SELECT id, run_id, version_id, key, path, queue, type, priority, attempt, needs_total, needs_met, true AS needs_prepare
  FROM steps WHERE status = 'ready'
