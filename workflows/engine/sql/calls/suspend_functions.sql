-- Functions whose visits have ended wait for steps that they have asked for: note how many have to end before the next
-- visit; those for which nothing is left to wait are ready again. Belongs into the transaction that makes them wait.
-- Parameters: functions text (a JSON array of {id, awaited: [step runs], any_of (one of them is enough)}).
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, losses int, needs_prepare bool.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH given AS MATERIALIZED (
    SELECT g.id, g.any_of, cardinality(g.awaited) AS asked,
           (SELECT count(*) FROM headrace_workflows_steprun c
             WHERE c.id = ANY (g.awaited) AND c.status || '' IN ('pending', 'ready', 'running', 'waiting'))::int AS open
      FROM json_to_recordset(%(functions)s::json) AS g (id uuid, awaited uuid[], any_of bool)
), waiting AS (
    UPDATE headrace_workflows_steprun s
       SET needs_left = CASE WHEN n.goes_on THEN 0 WHEN g.any_of THEN 1 ELSE g.open END,
           status = CASE WHEN n.goes_on THEN 'ready' ELSE 'waiting' END,
           waiting_for = CASE WHEN n.goes_on THEN '' ELSE 'steps' END,
           wake_seq = s.wake_seq + n.goes_on::int,
           ready_at = CASE WHEN n.goes_on THEN clock_timestamp() ELSE s.ready_at END,
           dispatched_at = NULL
      FROM given g CROSS JOIN LATERAL (SELECT g.open = 0 OR (g.any_of AND g.open < g.asked) AS goes_on) n
     WHERE s.id = g.id AND s.status || '' = 'waiting' AND s.waiting_for = 'steps'
    RETURNING s.*
)
SELECT id, run_id, version_id, key, path, queue, type, priority, attempt, needs_total, needs_met, losses,
       true AS needs_prepare
  FROM waiting WHERE status = 'ready'
