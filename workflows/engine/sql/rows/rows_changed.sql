-- Rows of these tables have changed: the steps that wait for some look at them now, or a second after their last look.
-- Of a step that is about to wait only the change is noted: `look_after_changes` sees it. Rows that another transaction
-- holds are left out: the same is being done to them, or their step is about to look.
-- Parameters: tables text[], every_s float8 (from one look of a step to the next), batch bigint.
-- Returns: soon_s float8 (seconds until a step wakes).
-- Indexes: model_wait_unchanged, primary key.
WITH due AS (
    SELECT w.id FROM headrace_workflows_modelwait w
     WHERE w.table_name = ANY (%(tables)s::text[]) AND w.changed_at IS NULL
     LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE headrace_workflows_modelwait w SET changed_at = clock_timestamp()
      FROM due WHERE w.id = due.id
    RETURNING w.step_run_id, w.looked_at
), woken AS (
    UPDATE headrace_workflows_steprun s
       SET wake_at = least(s.wake_at, greatest(clock_timestamp(), t.looked_at + make_interval(secs => %(every_s)s)))
      FROM (SELECT step_run_id, max(looked_at) AS looked_at FROM told GROUP BY step_run_id) t
     WHERE s.id = t.step_run_id AND s.status || '' = 'waiting' AND s.waiting_for = 'sleep'
    RETURNING s.wake_at
)
SELECT extract(epoch FROM wake_at - clock_timestamp())::float8 AS soon_s FROM woken
