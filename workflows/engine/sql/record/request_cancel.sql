-- Set the cancel flag of live runs, and of the live runs that they started (unless those are to go on by themselves).
-- Parameters: org uuid, ids uuid[], reason text.
-- Returns: id uuid.
-- Indexes: primary key, run_by_parent.
WITH RECURSIVE family AS (
    SELECT r.id FROM headrace_workflows_run r
     WHERE r.id = ANY (%(ids)s::uuid[]) AND r.org_id = %(org)s AND r.status IN ('queued', 'running')
    UNION
    SELECT c.id FROM family f JOIN headrace_workflows_run c ON c.parent_id = f.id
     WHERE c.parent_policy = 'cancel' AND c.status IN ('queued', 'running')
), ordered AS (
    SELECT r.id FROM headrace_workflows_run r JOIN family f ON f.id = r.id ORDER BY r.id FOR UPDATE OF r
)
UPDATE headrace_workflows_run r SET cancel_requested_at = clock_timestamp(), cancel_reason = %(reason)s
  FROM ordered o
 WHERE r.id = o.id AND r.status IN ('queued', 'running') AND r.cancel_requested_at IS NULL
RETURNING r.id
