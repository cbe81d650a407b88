-- How far the steps of a run have come.
-- Parameters: run uuid.
-- Returns: version_id uuid, failed bool (the run is bound to fail), key text, is_compensation bool, position int,
--   status text, begun bool (its handler was started).
-- Index: step_run_identity.
SELECT s.version_id, r.error IS NOT NULL AS failed, s.key, s.is_hook AS is_compensation, s.position, s.status,
       s.started_at IS NOT NULL OR s.memoized_from IS NOT NULL AS begun
  FROM headrace_workflows_steprun s JOIN headrace_workflows_run r ON r.id = s.run_id
 WHERE s.run_id = %(run)s AND s.path = ''
