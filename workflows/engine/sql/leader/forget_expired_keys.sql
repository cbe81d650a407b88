-- Idempotency keys that stand for nothing any more. One that a trigger takes over right now is left to it.
-- Parameters: batch bigint.
-- Returns: key text.
-- Index: idempotency_expires, primary key.
DELETE FROM headrace_workflows_idempotencykey k
 USING (SELECT org_id, flow_id, key FROM headrace_workflows_idempotencykey
         WHERE expires_at < clock_timestamp() - interval '1 minute' ORDER BY expires_at LIMIT %(batch)s
           FOR UPDATE SKIP LOCKED) o
 WHERE k.org_id = o.org_id AND k.flow_id = o.flow_id AND k.key = o.key
RETURNING k.key
