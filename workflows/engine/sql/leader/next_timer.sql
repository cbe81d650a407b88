-- Seconds until the next step wakes and until the next wait times out; null where that is later than `within_s`.
-- Parameters: within_s float8.
-- Returns: step_s float8 or null, wait_s float8 or null.
-- Indexes: step_run_wake, wait_timeout.
SELECT extract(epoch FROM (SELECT wake_at FROM headrace_workflows_steprun
                            WHERE status = 'waiting'
                              AND wake_at <= statement_timestamp() + make_interval(secs => %(within_s)s)
                              AND waiting_for IN ('retry', 'sleep', 'delay', 'pause')
                            ORDER BY wake_at LIMIT 1) - clock_timestamp())::float8 AS step_s,
       extract(epoch FROM (SELECT expires_at FROM headrace_workflows_wait
                            WHERE taken_at IS NULL
                              AND expires_at <= statement_timestamp() + make_interval(secs => %(within_s)s)
                            ORDER BY expires_at LIMIT 1) - clock_timestamp())::float8 AS wait_s
