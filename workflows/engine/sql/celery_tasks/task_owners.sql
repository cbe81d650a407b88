-- The organizations of the steps that have sent these Celery tasks.
-- Parameters: ids text[].
-- Returns: task_id text, org_id uuid.
-- Index: primary key.
SELECT task_id, org_id FROM headrace_workflows_celerytask WHERE task_id = ANY (%(ids)s::text[])
