-- What expressions may read of some runs: input, event, and the outcomes of the named steps as [status, output].
-- Returns a row per run.
-- Parameters: run_ids uuid[], keys text[], known uuid[] (runs whose input the caller has: it never changes).
-- Returns: id uuid, input jsonb or null, size int, event_id uuid or null, event_name text, trigger text, user_id text,
--   created_at timestamptz, priority int, version_id uuid, error jsonb or null, cancel_reason text, flow text, org_id
--   uuid, org_slug text, event_user jsonb or null, event_ts timestamptz or null, outcomes jsonb or null.
-- Indexes: primary keys, step_run_identity.
SELECT r.id, CASE WHEN r.id = ANY (%(known)s::uuid[]) THEN NULL ELSE r.input END AS input,
       pg_column_size(r.input) AS size, r.event_id, r.event_name, r.trigger, r.user_id, r.created_at, r.priority,
       r.version_id, r.error, r.cancel_reason, f.slug AS flow,
       o.id AS org_id, o.slug AS org_slug, e."user" AS event_user, e.ts AS event_ts,
       (SELECT jsonb_object_agg(s.key, jsonb_build_array(s.status, s.output))
          FROM unnest(%(keys)s::text[]) AS k (key)
          JOIN headrace_workflows_steprun s ON s.run_id = r.id AND s.key = k.key AND s.path = ''
         WHERE s.status IN ('completed', 'failed', 'skipped')) AS outcomes
  FROM unnest(%(run_ids)s::uuid[]) AS w (id)
  JOIN headrace_workflows_run r ON r.id = w.id
  JOIN headrace_workflows_flow f ON f.id = r.flow_id
  JOIN headrace_workflows_organization o ON o.id = r.org_id
  LEFT JOIN headrace_workflows_event e ON e.id = r.event_id
