-- The organizations of event keys, in force or not.
-- Parameters: digests text[].
-- Returns: digest text, org_id uuid.
-- Index: the unique one of the digest.
SELECT digest, organization_id AS org_id FROM headrace_workflows_accesskey WHERE digest = ANY (%(digests)s::text[])
