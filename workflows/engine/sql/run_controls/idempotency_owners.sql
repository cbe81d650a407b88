-- The runs that idempotency keys stand for. Parameters: org, flow uuid, keys text[]. Returns: key, run_id. Index: pk.
SELECT key, run_id FROM workflows_idempotencykey
 WHERE org_id = %(org)s AND flow_id = %(flow)s AND key = ANY (%(keys)s::text[])
