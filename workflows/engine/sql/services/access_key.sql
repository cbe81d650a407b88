-- An access key by its digest, in force or not, with its organization. Returns a row where it was ever issued.
-- Parameters: digest text.
-- Returns: id uuid, kind text, name text, prefix text, operator bool, scopes text[], created_at timestamptz, expires_at
--   timestamptz or null, expired bool, revoked_at timestamptz or null, org_id uuid, org_slug text, org_name text,
--   org_skips_arrivals bool, org_redaction text[], events_per_s int or null, is_full bool, org_created_at timestamptz.
-- Index: the unique one of the digest.
SELECT k.id, k.kind, k.name, k.prefix, k.operator, k.scopes, k.created_at, k.expires_at,
       COALESCE(k.expires_at <= clock_timestamp(), FALSE) AS expired, k.revoked_at, o.id AS org_id, o.slug AS org_slug,
       o.name AS org_name, o.skips_arrivals AS org_skips_arrivals, o.redaction AS org_redaction, o.events_per_s,
       o.is_full, o.created_at AS org_created_at
  FROM headrace_workflows_accesskey k JOIN headrace_workflows_organization o ON o.id = k.organization_id
 WHERE k.digest = %(digest)s
