-- The published version of a flow. Returns a row where there is such a flow.
-- Parameters: org uuid, slug text, version uuid or null (one that the caller remembers).
-- Returns: current_id uuid or null, is_archived bool, skips_arrivals bool (it is paused, and what arrives starts
--   nothing), has_version bool (the remembered one is there).
-- Index: flow_slug.
SELECT f.current_id, f.archived_at IS NOT NULL AS is_archived, f.skips_arrivals OR o.skips_arrivals AS skips_arrivals,
       EXISTS (SELECT FROM headrace_workflows_flowversion v WHERE v.id = %(version)s) AS has_version
  FROM headrace_workflows_flow f JOIN headrace_workflows_organization o ON o.id = f.organization_id
 WHERE f.organization_id = %(org)s AND f.slug = %(slug)s
