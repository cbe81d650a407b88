-- An access key by its digest, revoked or not, with its organization. Returns a row where it was ever issued.
-- Parameters: digest text.
-- Returns: id uuid, kind text, name text, prefix text, operator bool, created_at timestamptz, revoked_at timestamptz or
--   null, org_id uuid, org_slug text, org_name text, org_skips_arrivals bool, org_created_at timestamptz,
--   events_per_s int or null, is_full bool.
-- Index: the unique one of the digest.
SELECT k.id, k.kind, k.name, k.prefix, k.operator, k.created_at, k.revoked_at, o.id AS org_id, o.slug AS org_slug,
       o.name AS org_name, o.skips_arrivals AS org_skips_arrivals, o.created_at AS org_created_at,
       o.events_per_s, o.is_full
  FROM headrace_workflows_accesskey k JOIN headrace_workflows_organization o ON o.id = k.organization_id
 WHERE k.digest = %(digest)s
