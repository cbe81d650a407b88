-- Of callers that decide about the same keys of a flow, one after the other; until the end of the transaction. Keys are
-- locked in their order.
-- Parameters: flow uuid, keys text[].
-- Returns: nothing.
-- Index: none.
SELECT pg_advisory_xact_lock(hashtextextended(%(flow)s::text || k.key, 20261122))
  FROM (SELECT DISTINCT key FROM unnest(%(keys)s::text[]) AS u (key) ORDER BY key) k
