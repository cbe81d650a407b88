-- A version in Python asks for a step of this name for the first time: keep the options of that call. Returns those
-- that are in force: the first call decides.
-- Parameters: version uuid, name text, options text (JSON).
-- Returns: options jsonb.
-- Index: discovered_step_name.
INSERT INTO headrace_workflows_discoveredstep (id, version_id, name, options, created_at)
VALUES (headrace_uuid7(), %(version)s, %(name)s, %(options)s::jsonb, clock_timestamp())
    ON CONFLICT (version_id, name) DO UPDATE SET name = EXCLUDED.name
RETURNING options
