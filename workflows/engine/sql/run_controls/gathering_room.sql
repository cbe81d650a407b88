-- How many events the run has that gathers those of a key.
-- Parameters: flow uuid, key text.
-- Returns: gathered int.
-- Index: run_gathers.
SELECT gathered FROM headrace_workflows_run
 WHERE flow_id = %(flow)s AND gather_key = %(key)s AND gather_key <> '' AND status = 'queued'
   AND cancel_requested_at IS NULL
