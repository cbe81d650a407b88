-- Insert runs that have ended, from an export; those that there are already stay as they are. They never execute: each
-- has ended, and holds no key and no timer.
-- Parameters: rows text (a JSON array of whole rows).
-- Returns: id uuid.
-- Index: primary key.
INSERT INTO headrace_workflows_run
SELECT r.* FROM jsonb_populate_recordset(NULL::headrace_workflows_run, %(rows)s::jsonb) r
 WHERE r.status IN ('completed', 'failed', 'cancelled') AND r.ended_at IS NOT NULL AND NOT r.follow_up
   AND r.gather_key = ''
ON CONFLICT (id) DO NOTHING
RETURNING id
