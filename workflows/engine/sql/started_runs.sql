-- Live runs that have started, of the versions named: they hold run slots. Parameters: versions uuid[].
-- Returns: id, version_id. Index: run_live_by_age.
SELECT r.id, r.version_id FROM workflows_run r
 WHERE r.status = 'running' AND r.version_id = ANY (%(versions)s::uuid[])
