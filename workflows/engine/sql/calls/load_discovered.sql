-- The steps that a version in Python has asked for: the options of each name.
-- Parameters: version uuid, name text.
-- Returns: options jsonb.
-- Index: discovered_step_name.
SELECT options FROM headrace_workflows_discoveredstep WHERE version_id = %(version)s AND name = %(name)s
