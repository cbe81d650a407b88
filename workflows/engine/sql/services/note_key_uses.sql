-- Note that keys were used now: at most one write a minute for a key, by all processes together. A row that another
-- process writes at this moment is left to that.
-- Parameters: digests text[].
-- Returns: nothing.
-- Index: the unique one of the digest.
UPDATE headrace_workflows_accesskey SET last_used_at = clock_timestamp()
 WHERE id IN (SELECT id FROM headrace_workflows_accesskey
               WHERE digest = ANY (%(digests)s::text[])
                 AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
                 FOR UPDATE SKIP LOCKED)
