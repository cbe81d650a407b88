-- Minutes that no chart shows any more.
-- Parameters: until timestamptz, batch bigint.
-- Returns: at timestamptz.
-- Index: minute_by_time, primary key.
DELETE FROM headrace_workflows_minutecounts m
 USING (SELECT org_id, at FROM headrace_workflows_minutecounts WHERE at < %(until)s ORDER BY at LIMIT %(batch)s
           FOR UPDATE SKIP LOCKED) o
 WHERE m.org_id = o.org_id AND m.at = o.at
RETURNING m.at
