-- Take idempotency keys for new runs; an expired one is taken over, and with `force` a live one too. Waits for an open
-- transaction that holds one. Keys are taken in their order, so that two callers can't deadlock. Returns the keys that
-- were taken.
-- Parameters: org uuid, flow uuid, keys text[] (distinct), runs uuid[] (one each per key), taken_over text[] (those
--   taken by force), window_s float8.
-- Returns: key text, run_id uuid.
-- Index: primary key.
INSERT INTO headrace_workflows_idempotencykey AS k (org_id, flow_id, key, run_id, expires_at)
SELECT %(org)s, %(flow)s, w.key, w.run, clock_timestamp() + make_interval(secs => %(window_s)s)
  FROM unnest(%(keys)s::text[], %(runs)s::uuid[]) AS w (key, run)
 ORDER BY w.key
ON CONFLICT (org_id, flow_id, key) DO UPDATE SET run_id = EXCLUDED.run_id, expires_at = EXCLUDED.expires_at
 WHERE k.expires_at < clock_timestamp() OR EXCLUDED.key = ANY (%(taken_over)s::text[])
RETURNING k.key, k.run_id
