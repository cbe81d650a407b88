-- Runs of flows in Python that have not ended, oldest first: a page of those after one, with the shapes of their
-- journals (the steps that their code has asked for, by key, type and what became of them).
-- Parameters: org uuid, flows uuid[], after_at timestamptz, after_id uuid, page bigint.
-- Returns: run_id uuid, function_id uuid or null, flow_id uuid, created_at timestamptz, shape text.
-- Indexes: run_live_by_age, step_run_identity, step_run_item.
SELECT r.id AS run_id, m.id AS function_id, r.flow_id, r.created_at,
       md5(COALESCE((SELECT string_agg(concat_ws(' ', s.key, s.type,
                                                 CASE WHEN s.ended_at IS NOT NULL THEN s.status END), ','
                                       ORDER BY s.position)
                       FROM workflows_steprun s WHERE s.container_id = m.id), '')) AS shape
  FROM (SELECT id, flow_id, created_at FROM workflows_run
         WHERE org_id = %(org)s AND status IN ('queued', 'running') AND flow_id = ANY (%(flows)s::uuid[])
           AND (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
         ORDER BY created_at, id LIMIT %(page)s) r
  LEFT JOIN workflows_steprun m ON m.run_id = r.id AND m.key = 'main' AND m.path = '' AND m.type = 'function'
 ORDER BY r.created_at, r.id
