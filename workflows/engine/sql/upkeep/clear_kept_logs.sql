-- Take the log lines off steps of an organization's ended runs that were kept while they waited; the steps stay.
-- Parameters: ids uuid[] (of steps), ended_before timestamptz.
-- Returns: cleared int.
-- Index: primary keys.
WITH cleared AS (
    UPDATE headrace_workflows_steprun s SET kept_logs = NULL FROM headrace_workflows_run r
     WHERE s.id = ANY (%(ids)s::uuid[]) AND s.kept_logs IS NOT NULL AND r.id = s.run_id
       AND r.ended_at < %(ended_before)s
    RETURNING 1
)
SELECT count(*)::int AS cleared FROM cleared
