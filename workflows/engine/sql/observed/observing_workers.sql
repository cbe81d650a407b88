-- The workers that have told of tasks within the last `within_s`.
-- Parameters: within_s float8.
-- Returns: hostname text.
-- Index: observed_by_time.
SELECT DISTINCT hostname FROM headrace_workflows_observedtask
 WHERE seen_at > clock_timestamp() - make_interval(secs => %(within_s)s) AND hostname <> ''
