-- How large the results of a container's items are.
-- Parameters: id uuid (of the container), keys text[] (as of item_results).
-- Returns: bytes bigint.
-- Indexes: primary key of the items, step_run_item.
SELECT COALESCE(sum(CASE WHEN s.output ? '$enc'  -- of what a token holds: base64, less what is no payload
                         THEN (octet_length(s.output->>'$enc') - 12) * 3 / 4 - 65
                         ELSE octet_length(s.output::text) END), 0)::bigint AS bytes
  FROM headrace_workflows_item i
 CROSS JOIN LATERAL (SELECT s.output FROM headrace_workflows_steprun s
                      WHERE s.container_id = i.container_id AND s.index = i.index AND s.key = ANY (%(keys)s::text[])
                        AND s.status = 'completed' OFFSET 0) s
 WHERE i.container_id = %(id)s AND i.status = 'completed'
