-- Matched events of an organization from before a time, the earliest first, from a place on. The time is that of their
-- receipt too: an event that a step of an old run sends has an old id, and ids of before may be of no time at all.
-- Parameters: org uuid, before uuid (the first id of that time), after uuid (go on after it), received_before
--   timestamptz (that time), batch bigint.
-- Returns: id uuid.
-- Index: event_by_org.
SELECT id FROM headrace_workflows_event
 WHERE org_id = %(org)s AND id < %(before)s AND id > %(after)s AND matched_at IS NOT NULL
   AND received_at < %(received_before)s
 ORDER BY id LIMIT %(batch)s
