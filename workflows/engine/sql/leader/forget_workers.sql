-- Remove workers that were not seen for a while, or one that says goodbye.
-- Parameters: id uuid or null, silent_s float8.
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_worker
 WHERE id = %(id)s OR seen_at < clock_timestamp() - make_interval(secs => %(silent_s)s)
