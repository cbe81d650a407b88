-- What API keys in force that may start flows start: the published versions of flows that start what arrives, by key
-- and slug.
-- Parameters: digests text[], slugs text[] (one each per wanted run).
-- Returns: digest text, slug text, version_id uuid.
-- Indexes: the unique one of the digest; flow_slug.
SELECT DISTINCT w.digest, w.slug, f.current_id AS version_id
  FROM unnest(%(digests)s::text[], %(slugs)s::text[]) AS w (digest, slug)
  JOIN headrace_workflows_accesskey k ON k.digest = w.digest AND k.kind = 'api' AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
   AND (cardinality(k.scopes) = 0 OR 'run_flows' = ANY (k.scopes))
  JOIN headrace_workflows_organization o ON o.id = k.organization_id
  JOIN headrace_workflows_flow f ON f.organization_id = k.organization_id AND f.slug = w.slug
 WHERE f.current_id IS NOT NULL AND f.archived_at IS NULL AND NOT f.skips_arrivals AND NOT o.skips_arrivals
