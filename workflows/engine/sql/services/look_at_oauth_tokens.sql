-- Look whether the access token of a credential is good, or somebody renews it: those that wait write nothing. Returns
-- a row where the credential is known.
-- Parameters: org uuid, identity text, stale text (the digest of an access token that was refused, or empty).
-- Returns: leased bool, refresh_token bytea or null, access_token bytea or null, generation bigint, good_s float8 or
--   null (for how long the access token is good; null where it is not).
-- Index: oauth_credential_identity.
SELECT coalesce(leased_until > clock_timestamp(), false) AS leased, refresh_token, access_token, generation,
       CASE WHEN access_digest <> %(stale)s AND expires_at > clock_timestamp()
            THEN extract(epoch FROM expires_at - clock_timestamp())::float8 END AS good_s
  FROM headrace_workflows_oauthcredential
 WHERE organization_id = %(org)s AND identity = %(identity)s
