-- Take an idempotency key for a new run; an expired one is taken over. Waits for an open transaction that holds it.
-- Parameters: org, flow uuid, key text, run uuid, window_s float8. Returns a row where it was taken. Index: pk.
INSERT INTO workflows_idempotencykey AS k (org_id, flow_id, key, run_id, expires_at)
VALUES (%(org)s, %(flow)s, %(key)s, %(run)s, clock_timestamp() + make_interval(secs => %(window_s)s))
ON CONFLICT (org_id, flow_id, key) DO UPDATE SET run_id = EXCLUDED.run_id, expires_at = EXCLUDED.expires_at
 WHERE k.expires_at < clock_timestamp()
RETURNING k.run_id
