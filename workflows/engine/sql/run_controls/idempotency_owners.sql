-- The runs that idempotency keys stand for.
-- Parameters: org uuid, flow uuid, keys text[].
-- Returns: key text, run_id uuid.
-- Index: primary key.
SELECT key, run_id FROM headrace_workflows_idempotencykey
 WHERE org_id = %(org)s AND flow_id = %(flow)s AND key = ANY (%(keys)s::text[])
