-- Delete counts of dropped observations that are older than `keep_s`.
-- Parameters: keep_s float8.
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_observationloss WHERE day < (clock_timestamp() - make_interval(secs => %(keep_s)s))::date
