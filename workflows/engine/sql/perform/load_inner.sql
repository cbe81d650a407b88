-- What expressions of steps in containers read beside what the run has: their item, and the outcomes of the named steps
-- that stand beside them or around them, as [status, output].
-- Parameters: ids uuid[] (of step runs; those at the top are passed over), keys text[].
-- Returns: id uuid, run_id uuid, version_id uuid, path text, item jsonb or null, position int, outcomes jsonb or null.
-- Indexes: primary keys, step_run_identity.
SELECT s.id, s.run_id, s.version_id, s.path, i.value AS item, i.position,
       (SELECT jsonb_object_agg(o.key, jsonb_build_array(o.status, o.output))
          FROM (SELECT array_to_string(p.parts[1:depth], '/') AS path
                  FROM generate_series(1, cardinality(p.parts)) depth
                OFFSET 0) AS around
         CROSS JOIN unnest(%(keys)s::text[]) AS k (key)
         CROSS JOIN LATERAL (SELECT o.key, o.status, o.output FROM headrace_workflows_steprun o
                              WHERE o.run_id = s.run_id AND o.key = k.key AND o.path = around.path OFFSET 0) o
         WHERE o.status IN ('completed', 'failed', 'skipped')) AS outcomes
  FROM headrace_workflows_steprun s
 CROSS JOIN LATERAL (SELECT string_to_array(s.path, '/') AS parts) p
  JOIN headrace_workflows_item i ON i.container_id = s.container_id AND i.index = s.index
 WHERE s.id = ANY (%(ids)s::uuid[]) AND s.container_id IS NOT NULL
