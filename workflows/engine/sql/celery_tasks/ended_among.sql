-- Those of some Celery tasks that have ended, and what they came to.
-- Parameters: ids text[] (of tasks).
-- Returns: task_id text, end jsonb.
-- Index: primary key.
SELECT task_id, "end" FROM headrace_workflows_celerytask WHERE task_id = ANY (%(ids)s::text[]) AND state = 'ended'
