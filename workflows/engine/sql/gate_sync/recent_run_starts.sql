-- Starts of runs within the last seconds, of the versions named.
-- Parameters: since_s float8, versions uuid[].
-- Returns: id uuid, version_id uuid, age_s float8.
-- Indexes: run_live_by_age, run_ended (a run that started then is live, or ended later).
SELECT r.id, r.version_id, greatest(0, extract(epoch FROM clock_timestamp() - r.started_at))::float8 AS age_s
  FROM headrace_workflows_run r
 WHERE r.version_id = ANY (%(versions)s::uuid[])
   AND r.started_at > clock_timestamp() - make_interval(secs => %(since_s)s)
   AND (r.ended_at IS NULL OR r.ended_at > clock_timestamp() - make_interval(secs => %(since_s)s))
