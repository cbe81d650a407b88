-- A step looks for a row of the application: keep that it waits for changes of these tables, before it looks. Changes
-- up to now count as seen. Returns how long it may go on waiting.
-- Parameters: step uuid (step run), org uuid, tables text[], timeout_s float8 (from the first look).
-- Returns: left_s float8.
-- Index: model_wait_identity.
WITH kept AS (
    INSERT INTO headrace_workflows_modelwait AS w (step_run_id, org_id, table_name, looked_at, expires_at)
    SELECT %(step)s, %(org)s, t.name, clock_timestamp(), clock_timestamp() + make_interval(secs => %(timeout_s)s)
      FROM unnest(%(tables)s::text[]) AS t (name)
        ON CONFLICT (step_run_id, table_name) DO UPDATE SET changed_at = NULL, looked_at = clock_timestamp()
    RETURNING expires_at
)
SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::float8 AS left_s FROM kept
