-- What an error tracker is told of runs.
-- Parameters: ids uuid[], with_data bool (their input too).
-- Returns: id uuid, org_id uuid, slug text, status text, event_id uuid or null, event_name text, trigger text,
--   started_at float8, ended_at float8 or null (epoch seconds), input jsonb or null.
-- Index: primary keys.
SELECT r.id, r.org_id, f.slug, r.status, r.event_id, r.event_name, r.trigger,
       extract(epoch FROM COALESCE(r.started_at, r.created_at))::float8 AS started_at,
       extract(epoch FROM r.ended_at)::float8 AS ended_at,
       CASE WHEN %(with_data)s THEN r.input END AS input
  FROM headrace_workflows_run r JOIN headrace_workflows_flow f ON f.id = r.flow_id
 WHERE r.id = ANY (%(ids)s::uuid[])
