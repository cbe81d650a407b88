-- The published version of a flow. Returns a row where there is such a flow.
-- Parameters: org uuid, slug text.
-- Returns: current_id uuid or null, is_archived bool, skips_arrivals bool (it is paused, and what arrives starts
--   nothing).
-- Index: flow_slug.
SELECT f.current_id, f.archived_at IS NOT NULL AS is_archived, f.skips_arrivals OR o.skips_arrivals AS skips_arrivals
  FROM headrace_workflows_flow f JOIN headrace_workflows_organization o ON o.id = f.organization_id
 WHERE f.organization_id = %(org)s AND f.slug = %(slug)s
