-- Lock those of these events that nobody has matched, and is matching. Returns them in the order of their ids.
-- Parameters: ids uuid[].
-- Returns: id uuid, org_id uuid, name text, data jsonb, user jsonb, external_id text, trigger_id uuid or null, ts
--   timestamptz, received_at timestamptz.
-- Index: primary key.
SELECT id, org_id, name, data, "user", external_id, trigger_id, ts, received_at FROM headrace_workflows_event
 WHERE id = ANY (%(ids)s::uuid[]) AND matched_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED
