-- Steps that began to wait for rows while those changed: they look again now. Those that do not sleep yet take none of
-- the places.
-- Parameters: batch bigint.
-- Returns: id uuid.
-- Indexes: model_wait_changed, primary key.
UPDATE headrace_workflows_steprun s SET wake_at = clock_timestamp()
  FROM (SELECT DISTINCT o.id
          FROM headrace_workflows_modelwait w JOIN headrace_workflows_steprun o ON o.id = w.step_run_id
         WHERE w.changed_at IS NOT NULL AND o.status || '' = 'waiting' AND o.waiting_for = 'sleep'
           AND o.wake_at > clock_timestamp() + interval '1 second'
         LIMIT %(batch)s) asleep
 WHERE s.id = asleep.id AND s.status || '' = 'waiting' AND s.waiting_for = 'sleep'
   AND s.wake_at > clock_timestamp() + interval '1 second'
RETURNING s.id
