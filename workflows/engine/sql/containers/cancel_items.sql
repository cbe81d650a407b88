-- Cancel what is open and not executing within a container, and within the containers in it.
-- Parameters: id uuid (of the container), indexes int[] or null (of these items only).
-- Returns: id uuid, was_ready bool.
-- Index: step_run_item. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH RECURSIVE inner_step AS (
    SELECT s.id FROM headrace_workflows_steprun s
     WHERE s.container_id = %(id)s AND (%(indexes)s::int[] IS NULL OR s.index = ANY (%(indexes)s::int[]))
    UNION ALL
    SELECT s.id FROM inner_step i JOIN headrace_workflows_steprun s ON s.container_id = i.id
), old AS MATERIALIZED (
    SELECT s.id, s.status = 'ready' AS was_ready FROM inner_step i JOIN headrace_workflows_steprun s ON s.id = i.id
     WHERE s.status || '' IN ('pending', 'ready', 'waiting') ORDER BY s.id FOR UPDATE OF s
), stopped AS (
    UPDATE headrace_workflows_steprun s SET status = 'cancelled', ended_at = clock_timestamp(), wake_at = NULL,
           waiting_for = '', reason = 'its item or its container has failed'
      FROM old WHERE s.id = old.id
    RETURNING s.id, old.was_ready
), dropped AS (
    DELETE FROM headrace_workflows_wait w USING stopped WHERE w.step_run_id = stopped.id
)
SELECT id, was_ready FROM stopped
