-- The run that starts another one, held so that its cancel waits for that.
-- Parameters: org uuid, id uuid.
-- Returns: cancelled bool (or ended).
-- Index: primary key.
SELECT cancel_requested_at IS NOT NULL OR ended_at IS NOT NULL AS cancelled FROM headrace_workflows_run
 WHERE id = %(id)s AND org_id = %(org)s FOR SHARE
