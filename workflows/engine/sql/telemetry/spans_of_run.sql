-- The tries of a run, as spans of its trace.
-- Parameters: run uuid, most bigint.
-- Returns: id uuid, key text, type text, number int, status text, started_at float8, ended_at float8 (epoch seconds).
-- Index: attempt_by_run.
SELECT a.id, s.key, s.type, a.number, a.status,
       extract(epoch FROM COALESCE(a.started_at, a.ready_at, a.ended_at))::float8 AS started_at,
       extract(epoch FROM a.ended_at)::float8 AS ended_at
  FROM headrace_workflows_attempt a JOIN headrace_workflows_steprun s ON s.id = a.step_run_id
 WHERE a.run_id = %(run)s AND a.ended_at IS NOT NULL
 ORDER BY a.id LIMIT %(most)s
