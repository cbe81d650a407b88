-- The definitions of published versions, and whose they are.
-- Parameters: ids uuid[].
-- Returns: id uuid, flow_id uuid, number int, definition jsonb, org_id uuid.
-- Indexes: primary keys.
SELECT v.id, v.flow_id, v.number, v.definition, f.organization_id AS org_id
  FROM headrace_workflows_flowversion v JOIN headrace_workflows_flow f ON f.id = v.flow_id
 WHERE v.id = ANY (%(ids)s::uuid[])
