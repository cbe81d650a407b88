-- What comes now is gathered by a new run: the one that did so is full, has started or was cancelled.
-- Parameters: flow uuid, key text.
-- Returns: nothing.
-- Index: run_gathers.
UPDATE headrace_workflows_run SET gather_key = '' WHERE flow_id = %(flow)s AND gather_key = %(key)s AND gather_key <> ''
