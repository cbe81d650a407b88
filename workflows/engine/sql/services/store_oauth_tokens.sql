-- Store renewed tokens, unless somebody else has since. Returns a row where they were stored.
-- Parameters: org uuid, identity text, generation bigint (as it was claimed), refresh_token bytea or null (it stays),
--   access_token bytea, digest text, good_s float8.
-- Returns: generation bigint.
-- Index: oauth_credential_identity.
UPDATE headrace_workflows_oauthcredential
   SET refresh_token = coalesce(%(refresh_token)s::bytea, refresh_token), access_token = %(access_token)s,
       access_digest = %(digest)s, expires_at = clock_timestamp() + make_interval(secs => %(good_s)s),
       generation = generation + 1, lease = NULL, leased_until = NULL, used_at = clock_timestamp()
 WHERE organization_id = %(org)s AND identity = %(identity)s AND generation = %(generation)s
RETURNING generation
