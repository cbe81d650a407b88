-- The definitions of published versions, and whose they are.
-- Parameters: ids uuid[]. Indexes: primary keys.
SELECT v.id, v.flow_id, v.number, v.definition, f.organization_id AS org_id
  FROM workflows_flowversion v JOIN workflows_flow f ON f.id = v.flow_id
 WHERE v.id = ANY (%(ids)s::uuid[])
