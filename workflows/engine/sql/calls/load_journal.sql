-- The steps that a function has asked for, in the order in which it did. The error is that of the last try of one that
-- has failed (in the run whose outcome was taken over).
-- Parameters: function uuid (the step run).
-- Returns: id uuid, key text, type text, position int, status text, attempt int, output jsonb or null, error jsonb or
--   null, ended_at timestamptz or null.
-- Indexes: step_run_item, attempt_by_run.
SELECT s.id, s.key, s.type, s.position, s.status, s.attempt, s.output, a.error, s.ended_at
  FROM headrace_workflows_steprun s
  LEFT JOIN headrace_workflows_steprun o ON o.id = COALESCE(s.memoized_from, s.id) AND s.status = 'failed'
  LEFT JOIN LATERAL (SELECT a.error FROM headrace_workflows_attempt a
                      WHERE a.run_id = o.run_id AND a.step_run_id = o.id ORDER BY a.id DESC LIMIT 1) a
         ON s.status = 'failed'
 WHERE s.container_id = %(function)s
 ORDER BY s.position
