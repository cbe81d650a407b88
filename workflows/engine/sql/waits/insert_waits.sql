-- Store what steps wait for, in the transaction that makes them wait. Events count from when the step first became
-- ready, less `lookback_s`, or from when the run was made.
-- Parameters: waits text (a JSON array of {id (of the step run), kind, event_name, match_path, value_hash, condition,
--   lookback_s, since_run, child_id, remind_s, options}).
-- Returns: step_run_id uuid.
-- Index: primary keys. (`status || ''` hides the partial indexes from the planner: ADR 4.)
INSERT INTO headrace_workflows_wait (step_run_id, org_id, run_id, kind, event_name, match_path, value_hash, condition,
                                     since, looked_back, child_id, options, remind_at, expires_at, created_at, taken_by)
SELECT s.id, s.org_id, s.run_id, w.kind, w.event_name, w.match_path, w.value_hash, w.condition,
       CASE WHEN w.since_run THEN r.created_at
            ELSE least(s.ready_at, (SELECT min(a.ready_at) FROM headrace_workflows_attempt a
                                     WHERE a.run_id = s.run_id AND a.step_run_id = s.id))
                 - make_interval(secs => w.lookback_s) END,
       w.kind = 'approval', w.child_id, w.options, clock_timestamp() + make_interval(secs => w.remind_s), s.wake_at,
       clock_timestamp(), ''
  FROM json_to_recordset(%(waits)s::json) AS w (id uuid, kind text, event_name text, match_path text, value_hash text,
       condition text, lookback_s float8, since_run bool, child_id uuid, remind_s float8, options jsonb)
  JOIN headrace_workflows_steprun s ON s.id = w.id AND s.status || '' = 'waiting' AND s.waiting_for = w.kind
  JOIN headrace_workflows_run r ON r.id = s.run_id
    ON CONFLICT (step_run_id) DO NOTHING
RETURNING step_run_id
