-- The rendered output of a run that has just ended, or the error of rendering it.
-- Parameters: id uuid, output text or null, error text or null.
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_run SET output = %(output)s::jsonb, error = %(error)s::jsonb,
       status = CASE WHEN %(error)s::text IS NULL THEN status ELSE 'failed' END
 WHERE id = %(id)s AND status = 'completed'
