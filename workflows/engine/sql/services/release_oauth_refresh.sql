-- Give back the right to renew the tokens of a credential.
-- Parameters: org uuid, identity text, lease uuid, refused bool (the stored refresh token is worth nothing: the
--   configured one is used next).
-- Returns: nothing.
-- Index: oauth_credential_identity.
UPDATE headrace_workflows_oauthcredential
   SET lease = NULL, leased_until = NULL, refresh_token = CASE WHEN %(refused)s THEN NULL ELSE refresh_token END
 WHERE organization_id = %(org)s AND identity = %(identity)s AND lease = %(lease)s
