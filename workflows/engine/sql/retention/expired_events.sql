-- Matched events of an organization from before a time, the earliest first, from a place on.
-- Parameters: org uuid, before uuid (the first id of that time), after uuid (go on after it), batch bigint.
-- Returns: id uuid.
-- Index: event_by_org.
SELECT id FROM headrace_workflows_event
 WHERE org_id = %(org)s AND id < %(before)s AND id > %(after)s AND matched_at IS NOT NULL
 ORDER BY id LIMIT %(batch)s
