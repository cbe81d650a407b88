-- These Celery tasks have been given to the broker.
-- Parameters: ids text[] (of tasks).
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_celerytask
   SET state = CASE WHEN state = 'sending' THEN 'sent' ELSE state END, sent_at = clock_timestamp(), sends = sends + 1
 WHERE task_id = ANY (%(ids)s::text[])
