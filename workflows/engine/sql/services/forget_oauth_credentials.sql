-- Delete the credentials of an organization that no step has used for long.
-- Parameters: org uuid, unused_s float8.
-- Returns: nothing.
-- Index: oauth_credential_identity (its first column).
DELETE FROM headrace_workflows_oauthcredential
 WHERE organization_id = %(org)s AND used_at < clock_timestamp() - make_interval(secs => %(unused_s)s)
