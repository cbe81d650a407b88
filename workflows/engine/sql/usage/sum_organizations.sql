-- Write down what each organization stores in all, and whether that is over its quota.
-- Parameters: none.
-- Returns: slug text, is_full bool, bytes bigint (organizations that have come over their quota, or below it).
-- Index: stored_bytes_by_org.
WITH sums AS (
    SELECT o.id, o.is_full AS was_full, o.stored_bytes_most,
           COALESCE((SELECT sum(s.bytes) FROM headrace_workflows_storedbytes s WHERE s.org_id = o.id), 0)::bigint
               AS bytes
      FROM headrace_workflows_organization o
), written AS (
    UPDATE headrace_workflows_organization o
       SET stored_bytes = s.bytes, stored_bytes_at = clock_timestamp(),
           is_full = s.stored_bytes_most IS NOT NULL AND s.bytes >= s.stored_bytes_most
      FROM sums s
     WHERE o.id = s.id
       AND (o.stored_bytes_at IS NULL OR o.stored_bytes <> s.bytes
            OR o.stored_bytes_at < clock_timestamp() - interval '5 min'
            OR o.is_full <> (s.stored_bytes_most IS NOT NULL AND s.bytes >= s.stored_bytes_most))
    RETURNING o.slug, o.is_full, o.stored_bytes AS bytes, s.was_full
)
SELECT slug, is_full, bytes FROM written WHERE is_full <> was_full
