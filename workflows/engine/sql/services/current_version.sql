-- The published version of a flow. Parameters: org uuid, slug text. Returns: current_id, is_archived, skips_arrivals (it is
-- paused, and what arrives starts nothing), or nothing. Index: flow_slug.
SELECT f.current_id, f.archived_at IS NOT NULL AS is_archived, f.skips_arrivals OR o.skips_arrivals AS skips_arrivals
  FROM workflows_flow f JOIN workflows_organization o ON o.id = f.organization_id
 WHERE f.organization_id = %(org)s AND f.slug = %(slug)s
