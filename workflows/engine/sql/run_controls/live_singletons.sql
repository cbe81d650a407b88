-- The live runs that have these singleton keys.
-- Parameters: flow uuid, keys text[].
-- Returns: id uuid, key text.
-- Index: run_singleton.
SELECT id, singleton_key AS key FROM headrace_workflows_run
 WHERE flow_id = %(flow)s AND singleton_key = ANY (%(keys)s::text[]) AND status IN ('queued', 'running')
   AND singleton_key <> ''
