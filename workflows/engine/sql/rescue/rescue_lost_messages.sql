-- Dispatched steps whose message the broker may have lost: dispatched before `before` (a later one has been claimed),
-- or, with `idle_s`, longer than that ago (the queue is empty and its workers idle). The gate knows which of them wait
-- there.
-- Parameters: queue text, before float8 or null (epoch seconds), idle_s float8 or null, batch bigint.
-- Returns: id uuid.
-- Index: step_run_ready.
SELECT id FROM headrace_workflows_steprun
 WHERE status = 'ready' AND waiting_for = '' AND queue = %(queue)s
   AND dispatched_at < greatest(to_timestamp(%(before)s::float8),
                                clock_timestamp() - make_interval(secs => %(idle_s)s::float8))
 ORDER BY dispatched_at LIMIT %(batch)s
