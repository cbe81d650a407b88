-- Whether steps wait for a worker: at least so many are ready, not parked at a limit, and were so for a second.
-- Parameters: at_least bigint.
-- Returns: is_backlogged bool.
-- Index: step_run_ready.
SELECT count(*) >= %(at_least)s AS is_backlogged FROM (
    SELECT FROM headrace_workflows_steprun
     WHERE status = 'ready' AND waiting_for = '' AND ready_at < clock_timestamp() - interval '1 second'
     LIMIT %(at_least)s) s
