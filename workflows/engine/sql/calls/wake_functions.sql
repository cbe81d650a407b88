-- Steps that functions have asked for have ended: count them; a function that waits for no more of them is ready for
-- its next visit. Belongs into the transaction that records the steps. Functions are locked in the order of their ids.
-- Parameters: ended uuid[] (step runs).
-- Returns: id uuid, run_id uuid, version_id uuid, key text, path text, queue text, type text, priority int, attempt
--   int, needs_total int, needs_met int, losses int, needs_prepare bool.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH ended AS MATERIALIZED (
    SELECT s.container_id AS id, count(*)::int AS steps FROM headrace_workflows_steprun s
     WHERE s.id = ANY (%(ended)s::uuid[]) AND s.ended_at IS NOT NULL
     GROUP BY s.container_id
), locked AS MATERIALIZED (
    SELECT s.id FROM headrace_workflows_steprun s
     WHERE s.id IN (SELECT id FROM ended) AND s.status || '' = 'waiting' AND s.waiting_for = 'steps'
     ORDER BY s.id FOR UPDATE
), woken AS (
    UPDATE headrace_workflows_steprun s
       SET needs_left = greatest(0, s.needs_left - e.steps),
           status = CASE WHEN s.needs_left <= e.steps THEN 'ready' ELSE 'waiting' END,
           waiting_for = CASE WHEN s.needs_left <= e.steps THEN '' ELSE 'steps' END,
           wake_seq = s.wake_seq + (s.needs_left <= e.steps)::int,
           ready_at = CASE WHEN s.needs_left <= e.steps THEN clock_timestamp() ELSE s.ready_at END,
           dispatched_at = NULL
      FROM ended e JOIN locked USING (id)
     WHERE s.id = e.id AND s.status || '' = 'waiting' AND s.waiting_for = 'steps'
    RETURNING s.*
)
SELECT id, run_id, version_id, key, path, queue, type, priority, attempt, needs_total, needs_met, losses,
       true AS needs_prepare
  FROM woken WHERE status = 'ready'
