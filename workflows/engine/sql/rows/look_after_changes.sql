-- Steps that began to wait for rows while those changed: they look again now.
-- Parameters: batch bigint.
-- Returns: id uuid.
-- Indexes: model_wait_changed, primary key.
UPDATE headrace_workflows_steprun s SET wake_at = clock_timestamp()
  FROM (SELECT DISTINCT step_run_id FROM headrace_workflows_modelwait
         WHERE changed_at IS NOT NULL LIMIT %(batch)s) w
 WHERE s.id = w.step_run_id AND s.status || '' = 'waiting' AND s.waiting_for = 'sleep'
   AND s.wake_at > clock_timestamp() + interval '1 second'
RETURNING s.id
