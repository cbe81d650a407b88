-- How large the results of a container's items are, for `envelope.payload_bytes`.
-- Parameters: id uuid (of the container), keys text[] (as of item_results).
-- Returns: clear bigint (bytes of those in clear), number bigint (of those that are sealed), sealed bigint (bytes of
--   these).
-- Indexes: primary key of the items, step_run_item.
SELECT COALESCE(sum(octet_length(s.output::text)) FILTER (WHERE NOT s.output ? '$enc'), 0)::bigint AS clear,
       count(*) FILTER (WHERE s.output ? '$enc') AS number,
       COALESCE(sum(octet_length(s.output->>'$enc')), 0)::bigint AS sealed
  FROM headrace_workflows_item i
 CROSS JOIN LATERAL (SELECT s.output FROM headrace_workflows_steprun s
                      WHERE s.container_id = i.container_id AND s.index = i.index AND s.key = ANY (%(keys)s::text[])
                        AND s.status = 'completed' OFFSET 0) s
 WHERE i.container_id = %(id)s AND i.status = 'completed'
