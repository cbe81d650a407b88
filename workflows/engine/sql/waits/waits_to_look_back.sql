-- Waits whose process died between its commit and its look at what came before; the first of each organization before
-- the second of any.
-- Parameters: grace_s float8, batch bigint, put_off uuid[].
-- Returns: id uuid (of the step run), org_id uuid.
-- Index: wait_not_looked_back.
SELECT f.id, f.org_id FROM (
    SELECT u.*, row_number() OVER (PARTITION BY u.org_id ORDER BY u.at) AS place FROM (
        SELECT step_run_id AS id, org_id, created_at AS at FROM headrace_workflows_wait
         WHERE NOT looked_back AND created_at < statement_timestamp() - make_interval(secs => %(grace_s)s)
           AND step_run_id <> ALL (%(put_off)s::uuid[])
         ORDER BY created_at LIMIT 20000) u) f
 ORDER BY f.place, f.at LIMIT %(batch)s
