-- Keys that were taken for a run that is not made after all, since another key of it stands for an earlier run.
-- Parameters: org uuid, flow uuid, keys text[], unmade uuid[] (the run that has the key), runs uuid[] (that has it from
--   now on).
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_idempotencykey k SET run_id = w.run
  FROM (SELECT * FROM unnest(%(keys)s::text[], %(unmade)s::uuid[], %(runs)s::uuid[]) AS w (key, unmade, run)
        ORDER BY key) w
 WHERE k.org_id = %(org)s AND k.flow_id = %(flow)s AND k.key = w.key AND k.run_id = w.unmade
