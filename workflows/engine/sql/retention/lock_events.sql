-- Lock matched events that are to be deleted, in the order of their ids; those that somebody has locked are left.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_event WHERE id = ANY (%(ids)s::uuid[]) AND matched_at IS NOT NULL
 ORDER BY id FOR UPDATE SKIP LOCKED
