-- Versions with live runs, or with runs of the last day.
-- Parameters: none.
-- Returns: id uuid.
-- Indexes: run_live_by_age, primary keys.
SELECT DISTINCT r.version_id AS id FROM headrace_workflows_run r
 WHERE r.status IN ('queued', 'running') OR r.ended_at > clock_timestamp() - interval '1 day'
