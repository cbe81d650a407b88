-- Watch the Celery tasks of steps: the rows of new ones are made, before they are sent; those of a watch that is taken
-- over are there. Returns for each what is known of it.
-- Parameters: tasks text (a JSON array of {task_id, step_run_id, org_id, run_id, name}).
-- Returns: task_id text, state text, is_new bool, age_s float8 (since the row was made), sends int, end jsonb or null.
-- Index: primary key.
WITH wanted AS (
    SELECT * FROM json_to_recordset(%(tasks)s::json)
        AS t (task_id text, step_run_id uuid, org_id uuid, run_id uuid, name text)
     ORDER BY task_id
), watched AS (
    INSERT INTO headrace_workflows_celerytask AS c (task_id, step_run_id, org_id, run_id, name, state, sends,
                                                    created_at, taken_at, ended_by)
    SELECT task_id, step_run_id, org_id, run_id, name, 'sending', 0, clock_timestamp(), clock_timestamp(), ''
      FROM wanted
        ON CONFLICT (task_id) DO UPDATE SET taken_at = clock_timestamp()
    RETURNING c.task_id, c.state, c.xmax = 0 AS is_new, c.created_at, c.sends,
              c."end"
)
SELECT task_id, state, is_new, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s, sends, "end"
  FROM watched
