-- running → completed for runs whose steps have all ended without a fatal failure.
-- Parameters: ids uuid[].
-- Returns: id uuid, version_id uuid.
-- Index: primary key.
UPDATE headrace_workflows_run r SET status = 'completed', ended_at = clock_timestamp(), sinks_left = 0
 WHERE r.id = ANY (%(ids)s::uuid[]) AND r.status IN ('queued', 'running') AND r.error IS NULL
   AND r.cancel_requested_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s
                    WHERE s.run_id = r.id AND s.status IN ('pending', 'ready', 'running', 'waiting'))
RETURNING r.id, r.version_id
