-- Delete what steps waited for that have ended.
-- Parameters: batch bigint.
-- Returns: id bigint.
-- Indexes: primary keys.
DELETE FROM headrace_workflows_modelwait w
 USING (SELECT o.id FROM headrace_workflows_modelwait o
     LEFT JOIN headrace_workflows_steprun s ON s.id = o.step_run_id
         WHERE s.id IS NULL OR s.status || '' IN ('completed', 'failed', 'skipped', 'cancelled')
         LIMIT %(batch)s FOR UPDATE OF o SKIP LOCKED) gone
 WHERE w.id = gone.id
RETURNING w.id
