-- Lock matched events that are to be deleted, in the order of their ids; those that somebody has locked are left, and
-- those that were matched within a minute: who finds one that is not matched yet does not lock it.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_event WHERE id = ANY (%(ids)s::uuid[]) 
   AND matched_at < clock_timestamp() - interval '1 minute'
 ORDER BY id FOR UPDATE SKIP LOCKED
