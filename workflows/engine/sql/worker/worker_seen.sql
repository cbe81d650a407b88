-- Whether a worker process was seen lately.
-- Parameters: silent_s float8 (as long it may be silent).
-- Returns: seen bool.
-- Index: none, the table has a row per worker process.
SELECT EXISTS (
    SELECT FROM headrace_workflows_worker w WHERE w.seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)
) AS seen
