-- Take the log lines off old attempts of an organization's ended runs; the attempts stay.
-- Parameters: ids uuid[] (of attempts).
-- Returns: cleared int.
-- Index: primary keys.
WITH cleared AS (
    UPDATE headrace_workflows_attempt a SET logs = NULL FROM headrace_workflows_run r
     WHERE a.id = ANY (%(ids)s::uuid[]) AND a.logs IS NOT NULL AND r.id = a.run_id AND r.ended_at IS NOT NULL
    RETURNING 1
)
SELECT count(*)::int AS cleared FROM cleared
