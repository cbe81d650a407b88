-- Insert step runs that have ended, from an export; those that there are already stay as they are.
-- Parameters: rows text (a JSON array of whole rows).
-- Returns: id uuid.
-- Indexes: primary key, step_run_identity.
INSERT INTO headrace_workflows_steprun
SELECT s.* FROM jsonb_populate_recordset(NULL::headrace_workflows_steprun, %(rows)s::jsonb) s
 WHERE s.status IN ('completed', 'failed', 'skipped', 'cancelled') AND s.lease_token IS NULL AND s.wake_at IS NULL
ON CONFLICT DO NOTHING
RETURNING id
