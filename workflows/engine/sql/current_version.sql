-- The published version of a flow. Parameters: org uuid, slug text. Returns: current_id, or nothing. Index: flow_slug.
SELECT current_id FROM workflows_flow WHERE organization_id = %(org)s AND slug = %(slug)s
