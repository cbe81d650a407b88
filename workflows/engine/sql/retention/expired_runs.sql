-- Runs of an organization that ended with a status before a time, the earliest first, from a place on. Whether somebody
-- refers to one is not looked at here.
-- Parameters: org uuid, status text, before timestamptz, after_at timestamptz, after_id uuid (go on after these),
--   put_off uuid[] (those that could not be deleted lately), batch bigint.
-- Returns: id uuid, ended_at timestamptz.
-- Index: run_ended.
SELECT id, ended_at FROM headrace_workflows_run
 WHERE org_id = %(org)s AND status = %(status)s AND ended_at IS NOT NULL AND ended_at < %(before)s
   AND ended_at >= %(after_at)s AND (ended_at, id) > (%(after_at)s, %(after_id)s) AND id <> ALL (%(put_off)s::uuid[])
 ORDER BY ended_at, id LIMIT %(batch)s
