-- Count new runs for their flow's rate limit.
-- Parameters: flow uuid, keys text[], runs uuid[] (one each).
-- Returns: nothing.
-- Index: primary key.
INSERT INTO headrace_workflows_runstart (id, flow_id, key, run_id, at)
SELECT headrace_uuid7(), %(flow)s, w.key, w.run, clock_timestamp()
  FROM unnest(%(keys)s::text[], %(runs)s::uuid[]) AS w (key, run)
