-- Steps in containers that are recorded without an end (they wait, or are ready again) although their item or a
-- container around them has ended or is to stop: cancel them.
-- Parameters: ids uuid[].
-- Returns: id uuid, was_ready bool, container_id uuid.
-- Indexes: primary keys. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH stray AS MATERIALIZED (
    SELECT s.id, s.container_id, s.status = 'ready' AS was_ready
      FROM headrace_workflows_steprun s
      JOIN headrace_workflows_steprun c ON c.id = s.container_id
      JOIN headrace_workflows_fanout f ON f.step_run_id = s.container_id
      JOIN headrace_workflows_item i ON i.container_id = s.container_id AND i.index = s.index
     WHERE s.id = ANY (%(ids)s::uuid[]) AND s.status || '' IN ('ready', 'waiting')
       AND (f.stopping OR i.status <> 'open' OR c.status <> 'waiting')
     ORDER BY s.id FOR UPDATE OF s
)
UPDATE headrace_workflows_steprun s
   SET status = 'cancelled', ended_at = clock_timestamp(), wake_at = NULL, waiting_for = '',
       reason = 'its item or its container has failed'
  FROM stray WHERE s.id = stray.id
RETURNING s.id, stray.was_ready, stray.container_id
