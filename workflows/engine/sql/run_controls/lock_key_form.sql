-- Hold the form in which the keys that flows compute are stored for an organization, until the transaction ends; alone,
-- to change it.
-- Parameters: org uuid, alone bool.
-- Returns: nothing.
-- Index: none.
SELECT CASE WHEN %(alone)s THEN pg_advisory_xact_lock(hashtextextended(%(org)s::text, 20261126))
            ELSE pg_advisory_xact_lock_shared(hashtextextended(%(org)s::text, 20261126)) END
