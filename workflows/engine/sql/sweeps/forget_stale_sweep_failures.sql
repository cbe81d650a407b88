-- Failures of items that are gone (nobody has tried them for longer than the longest pause), of sweeps that overran a
-- while ago, and what was given up a week ago.
-- Parameters: stale_s float8.
-- Returns: nothing.
-- Index: none, a small table.
DELETE FROM headrace_workflows_sweepfailure
 WHERE (given_up_at IS NULL AND last_at < clock_timestamp() - make_interval(secs => %(stale_s)s))
    OR given_up_at < clock_timestamp() - interval '7 days'
