-- Keys that were taken for a run that is not made after all, since another key of it stands for an earlier run.
-- Parameters: org, flow uuid, keys text[], runs uuid[]. Index: pk.
UPDATE workflows_idempotencykey k SET run_id = w.run
  FROM (SELECT * FROM unnest(%(keys)s::text[], %(runs)s::uuid[]) AS w (key, run) ORDER BY key) w
 WHERE k.org_id = %(org)s AND k.flow_id = %(flow)s AND k.key = w.key
