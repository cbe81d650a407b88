-- Give the credential that was stored under an older encryption key its identity under the newest one, where none has
-- that yet. Its access token is asked for anew: whether it was refused is told by a hash under the key of before.
-- Parameters: org uuid, identity text, older text[].
-- Returns: nothing.
-- Index: oauth_credential_identity.
UPDATE headrace_workflows_oauthcredential
   SET identity = %(identity)s, access_token = NULL, access_digest = '', expires_at = NULL
 WHERE organization_id = %(org)s
   AND identity = (SELECT c.identity FROM headrace_workflows_oauthcredential c
                    WHERE c.organization_id = %(org)s AND c.identity = ANY (%(older)s::text[])
                    ORDER BY c.used_at DESC LIMIT 1)
   AND NOT EXISTS (SELECT FROM headrace_workflows_oauthcredential c
                    WHERE c.organization_id = %(org)s AND c.identity = %(identity)s)
