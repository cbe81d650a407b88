-- How many bytes of output some runs hold already. Asked for large outputs only.
-- Parameters: run_ids uuid[].
-- Returns: run_id uuid, bytes bigint.
-- Index: step_run_identity.
SELECT r.id AS run_id,
       COALESCE(sum(CASE WHEN s.output ? '$enc'  -- of what a token holds: base64, less what is no payload
                         THEN (octet_length(s.output->>'$enc') - 12) * 3 / 4 - 65
                         ELSE octet_length(s.output::text) END), 0)::bigint AS bytes
  FROM unnest(%(run_ids)s::uuid[]) AS r (id)
  LEFT JOIN headrace_workflows_steprun s ON s.run_id = r.id AND s.output IS NOT NULL
 GROUP BY r.id
