-- Store what Celery tasks came to. The first end that is known of a task counts. Returns those that ended now.
-- Parameters: ends text (a JSON array of {task_id, end, by}).
-- Returns: task_id text.
-- Index: primary key.
WITH told AS (
    SELECT DISTINCT ON (task_id) * FROM json_to_recordset(%(ends)s::json) AS e (task_id text, "end" jsonb, by text)
     ORDER BY task_id
), held AS MATERIALIZED (
    SELECT c.task_id, t."end", t.by FROM told t JOIN headrace_workflows_celerytask c ON c.task_id = t.task_id
     WHERE c.state <> 'ended' ORDER BY c.task_id FOR UPDATE OF c
)
UPDATE headrace_workflows_celerytask c
   SET state = 'ended', ended_at = clock_timestamp(), "end" = held."end", ended_by = held.by
  FROM held WHERE c.task_id = held.task_id
RETURNING c.task_id
