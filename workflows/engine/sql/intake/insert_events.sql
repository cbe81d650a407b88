-- Insert the events of many requests. Those of a request are stored all together, where its event key is in force and
-- no event of it has a name with a schema; of every other request nothing is, nor of one whose organization has a quota
-- to be asked, or is over its quota of stored bytes.
-- Parameters: digests text[] (one per request), places int[] (of its request, from 1), ids uuid[], names text[],
--   datas text[], users text[], times timestamptz[] with nulls (when it happened; null: now), external_ids text[] (one
--   each per event).
-- Returns: place int, org_id uuid (the requests whose events are stored).
-- Indexes: the unique one of the digest; event_schema_name.
WITH owner AS (
    SELECT a.place::int AS place, k.organization_id AS org_id
      FROM unnest(%(digests)s::text[]) WITH ORDINALITY AS a (digest, place)
      JOIN headrace_workflows_accesskey k ON k.digest = a.digest AND k.kind = 'event' AND k.revoked_at IS NULL
      JOIN headrace_workflows_organization n ON n.id = k.organization_id
     WHERE (k.expires_at IS NULL OR k.expires_at > clock_timestamp()) AND n.events_per_s IS NULL AND NOT n.is_full
), given AS (
    SELECT * FROM unnest(%(places)s::int[], %(ids)s::uuid[], %(names)s::text[], %(datas)s::text[]::jsonb[],
                         %(users)s::text[]::jsonb[], %(times)s::timestamptz[], %(external_ids)s::text[])
        AS g (place, id, name, data, "user", ts, external_id)
), formed AS (
    SELECT DISTINCT g.place FROM (SELECT DISTINCT place, name FROM given) g JOIN owner o ON o.place = g.place
      JOIN headrace_workflows_eventschema s ON s.organization_id = o.org_id AND s.name = g.name
), stored AS (
    SELECT o.place, o.org_id FROM owner o WHERE o.place <> ALL (ARRAY(SELECT place FROM formed))
), inserted AS (
    INSERT INTO headrace_workflows_event (id, org_id, name, data, "user", ts, external_id)
    SELECT g.id, s.org_id, g.name, g.data, g."user", COALESCE(g.ts, clock_timestamp()), g.external_id
      FROM given g JOIN stored s ON s.place = g.place
        ON CONFLICT DO NOTHING
)
SELECT place, org_id FROM stored ORDER BY place
