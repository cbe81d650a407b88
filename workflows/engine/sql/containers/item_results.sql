-- The results of a container's items, in the order of the list: the output of the first of some steps (one and those
-- that may stand in for it) that is completed, null where there is none.
-- Parameters: id uuid (of the container), keys text[].
-- Returns: results jsonb.
-- Indexes: primary key of the items, step_run_item.
SELECT COALESCE(jsonb_agg(s.output ORDER BY i.position), '[]') AS results
  FROM headrace_workflows_item i
  LEFT JOIN LATERAL (SELECT s.output FROM headrace_workflows_steprun s
                      WHERE s.container_id = i.container_id AND s.index = i.index AND s.key = ANY (%(keys)s::text[])
                        AND i.status = 'completed' AND s.status = 'completed'
                      ORDER BY array_position(%(keys)s::text[], s.key::text) LIMIT 1) s ON true
 WHERE i.container_id = %(id)s AND i.status <> 'split'
