-- Set the cancel flag of live runs. Parameters: org uuid, ids uuid[], reason text. Returns: id. Index: primary key.
UPDATE workflows_run SET cancel_requested_at = clock_timestamp(), cancel_reason = %(reason)s
 WHERE id = ANY (%(ids)s::uuid[]) AND org_id = %(org)s AND status IN ('queued', 'running') AND cancel_requested_at IS NULL
RETURNING id
