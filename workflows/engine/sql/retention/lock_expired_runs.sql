-- Lock runs that are to be deleted, in the order of their ids; those that somebody has locked are left to them. Who
-- begins to refer to a run (a repair, a fork) locks its row before, so nobody begins until the transaction ends.
-- Parameters: ids uuid[], before timestamptz (they ended before it).
-- Returns: id uuid.
-- Index: primary key.
SELECT id FROM headrace_workflows_run
 WHERE id = ANY (%(ids)s::uuid[]) AND ended_at IS NOT NULL AND ended_at < %(before)s
 ORDER BY id FOR UPDATE SKIP LOCKED
