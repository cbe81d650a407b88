-- What is logged of runs that failed or were cancelled.
-- Parameters: ids uuid[].
-- Returns: id uuid, slug text, status text, error jsonb or null, cancel_reason text.
-- Index: primary keys.
SELECT r.id, f.slug, r.status, r.error, r.cancel_reason
  FROM headrace_workflows_run r JOIN headrace_workflows_flow f ON f.id = r.flow_id
 WHERE r.id = ANY (%(ids)s::uuid[])
