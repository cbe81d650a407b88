-- Delete the rows of Celery tasks that have ended, and whose steps have.
-- Parameters: batch bigint.
-- Returns: task_id text.
-- Indexes: primary keys.
DELETE FROM headrace_workflows_celerytask c
 USING (SELECT o.task_id FROM headrace_workflows_celerytask o
     LEFT JOIN headrace_workflows_steprun s ON s.id = o.step_run_id
         WHERE o.state = 'ended'
           AND (s.id IS NULL OR s.status || '' IN ('completed', 'failed', 'skipped', 'cancelled'))
         ORDER BY o.task_id LIMIT %(batch)s FOR UPDATE OF o SKIP LOCKED) gone
 WHERE c.task_id = gone.task_id
RETURNING c.task_id
