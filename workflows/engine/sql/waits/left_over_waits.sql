-- Waits that are over, and that nobody has recorded for a while; the first of each organization before the second of
-- any.
-- Parameters: grace_s float8, batch bigint, put_off uuid[].
-- Returns: id uuid (of the step run), org_id uuid.
-- Index: wait_taken_at.
SELECT f.id, f.org_id FROM (
    SELECT u.*, row_number() OVER (PARTITION BY u.org_id ORDER BY u.at) AS place FROM (
        SELECT step_run_id AS id, org_id, taken_at AS at FROM headrace_workflows_wait
         WHERE taken_at IS NOT NULL AND taken_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
           AND step_run_id <> ALL (%(put_off)s::uuid[])
         ORDER BY taken_at LIMIT 20000) u) f
 ORDER BY f.place, f.at LIMIT %(batch)s
