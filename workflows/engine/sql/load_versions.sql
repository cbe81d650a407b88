-- The definitions of published versions.
-- Parameters: ids uuid[]. Index: primary key.
SELECT id, flow_id, number, definition FROM workflows_flowversion WHERE id = ANY (%(ids)s::uuid[])
