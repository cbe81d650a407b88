-- Celery tasks that may still be executing for steps that have ended (they were cancelled while nobody watched, say),
-- or whose steps are gone.
-- Parameters: batch bigint.
-- Returns: task_id text.
-- Indexes: primary keys.
SELECT c.task_id FROM headrace_workflows_celerytask c
  LEFT JOIN headrace_workflows_steprun s ON s.id = c.step_run_id
 WHERE c.state <> 'ended' AND (s.id IS NULL OR s.status || '' IN ('completed', 'failed', 'skipped', 'cancelled'))
 ORDER BY c.task_id LIMIT %(batch)s
