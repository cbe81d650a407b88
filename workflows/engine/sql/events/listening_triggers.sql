-- The triggers of an organization that may hear events: by name, and those at whose addresses they came (one that was
-- removed may still hear what came before).
-- Parameters: org uuid, names text[] (names and patterns), addressed uuid[].
-- Returns: id uuid, org_id uuid, kind text, event_name text, condition text, config jsonb, removed_at timestamptz or
--   null, flow_id uuid, flow_slug text, version_id uuid or null (the published one), skips_arrivals bool.
-- Indexes: trigger_by_event; primary key.
WITH found AS (
    SELECT t.* FROM headrace_workflows_trigger t
     WHERE t.organization_id = %(org)s AND t.kind = 'event' AND t.event_name = ANY (%(names)s::text[])
       AND t.enabled AND t.removed_at IS NULL
    UNION ALL
    SELECT t.* FROM headrace_workflows_trigger t
     WHERE t.id = ANY (%(addressed)s::uuid[]) AND t.organization_id = %(org)s AND t.kind = 'webhook' AND t.enabled
)
SELECT t.id, t.organization_id AS org_id, t.kind, t.event_name, t.condition, t.config, t.removed_at, t.flow_id,
       f.slug AS flow_slug, f.current_id AS version_id,
       f.skips_arrivals OR o.skips_arrivals AS skips_arrivals
  FROM found t JOIN headrace_workflows_flow f ON f.id = t.flow_id
      JOIN headrace_workflows_organization o ON o.id = f.organization_id
 WHERE f.archived_at IS NULL ORDER BY t.flow_id, t.position, t.id
