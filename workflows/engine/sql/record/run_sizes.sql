-- How many bytes of output some runs hold already, for `envelope.payload_bytes`. Asked for large outputs only.
-- Parameters: run_ids uuid[].
-- Returns: run_id uuid, clear bigint (bytes of those in clear), number bigint (of those that are sealed), sealed bigint
--   (bytes of these).
-- Index: step_run_identity.
SELECT r.id AS run_id,
       COALESCE(sum(octet_length(s.output::text)) FILTER (WHERE NOT s.output ? '$enc'), 0)::bigint AS clear,
       count(*) FILTER (WHERE s.output ? '$enc') AS number,
       COALESCE(sum(octet_length(s.output->>'$enc')), 0)::bigint AS sealed
  FROM unnest(%(run_ids)s::uuid[]) AS r (id)
  LEFT JOIN headrace_workflows_steprun s ON s.run_id = r.id AND s.output IS NOT NULL
 GROUP BY r.id
