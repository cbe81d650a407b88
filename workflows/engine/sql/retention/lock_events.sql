-- Lock matched events that are to be deleted, in the order of their ids. Those that somebody has locked are left, and
-- those that were matched within a minute: a wait that is taken by an event which was not matched when its statement
-- began (`take_waits`) has not locked that.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_event WHERE id = ANY (%(ids)s::uuid[])
   AND matched_at < clock_timestamp() - interval '1 minute'
 ORDER BY id FOR UPDATE SKIP LOCKED
