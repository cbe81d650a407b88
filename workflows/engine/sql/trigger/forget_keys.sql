-- Idempotency keys of runs that are not made.
-- Parameters: org uuid, flow uuid, keys text[], runs uuid[].
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_idempotencykey
 WHERE org_id = %(org)s AND flow_id = %(flow)s AND key = ANY (%(keys)s::text[]) AND run_id = ANY (%(runs)s::uuid[])
