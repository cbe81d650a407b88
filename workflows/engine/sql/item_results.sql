-- The results of a container's items, in the order of the list: the output of one step of each, null where there is none.
-- Parameters: id uuid (of the container), key text (of the step). Returns: results (JSON). Indexes: primary key of the
-- items, step_run_item.
SELECT COALESCE(jsonb_agg(s.output ORDER BY i.position), '[]') AS results
  FROM workflows_item i
  LEFT JOIN LATERAL (SELECT s.output FROM workflows_steprun s
                      WHERE s.container_id = i.container_id AND s.index = i.index AND s.key = %(key)s
                        AND i.status = 'completed' OFFSET 0) s ON true
 WHERE i.container_id = %(id)s AND i.status <> 'split'
