-- Take the right to renew the tokens of a credential, unless its access token is still good or somebody else renews it.
-- Returns one row.
-- Parameters: id uuid (of a new row), org uuid, identity text, stale text (the digest of an access token that was
--   refused, or empty), lease uuid, lease_s float8.
-- Returns: mine bool, refresh_token bytea or null, access_token bytea or null, generation bigint, good_s float8 or null
--   (for how long the access token is good; null where it is not).
-- Index: oauth_credential_identity.
INSERT INTO headrace_workflows_oauthcredential AS c (id, organization_id, identity, lease, leased_until, used_at)
VALUES (%(id)s, %(org)s, %(identity)s, %(lease)s, clock_timestamp() + make_interval(secs => %(lease_s)s),
        clock_timestamp())
ON CONFLICT (organization_id, identity) DO UPDATE
   SET used_at = clock_timestamp(),
       lease = CASE WHEN (c.expires_at > clock_timestamp() AND c.access_digest <> %(stale)s)
                      OR c.leased_until > clock_timestamp() THEN c.lease ELSE EXCLUDED.lease END,
       leased_until = CASE WHEN (c.expires_at > clock_timestamp() AND c.access_digest <> %(stale)s)
                             OR c.leased_until > clock_timestamp() THEN c.leased_until ELSE EXCLUDED.leased_until END
RETURNING c.lease IS NOT DISTINCT FROM %(lease)s AS mine, c.refresh_token, c.access_token, c.generation,
          CASE WHEN c.access_digest <> %(stale)s AND c.expires_at > clock_timestamp()
               THEN extract(epoch FROM c.expires_at - clock_timestamp())::float8 END AS good_s
