-- Starts of steps within the last seconds, for the rebuilding of the gate's windows: tries that have ended, steps that
-- sleep, and those that execute (they count from now: they may have begun this moment). The start of a lost try is not
-- known, so it counts from its end. Of steps whose limits have no key many are counted together, by twentieths of a
-- second, the latest of each.
-- Parameters: since_s float8, first uuid (the uuid7 of that moment), keyed text[] (version and key of steps whose
--   limits have keys, as 'version:key': they come one by one, with their run).
-- Returns: version_id uuid, key text, run_id uuid or null (where counted together), age_s float8, starts int.
-- Indexes: primary keys, step_run_wake, step_run_running.
WITH starts AS (
    SELECT s.version_id, s.key, s.run_id, CASE WHEN a.status = 'lost' THEN a.ended_at ELSE a.started_at END AS at
      FROM headrace_workflows_attempt a JOIN headrace_workflows_steprun s ON s.id = a.step_run_id
     WHERE a.id >= %(first)s AND a.started_at IS NOT NULL
    UNION ALL
    SELECT s.version_id, s.key, s.run_id, s.started_at FROM headrace_workflows_steprun s
     WHERE s.status = 'waiting' AND s.waiting_for = 'sleep' AND s.started_at IS NOT NULL
    UNION ALL
    SELECT s.version_id, s.key, s.run_id, clock_timestamp() FROM headrace_workflows_steprun s WHERE s.status = 'running'
), recent AS (
    SELECT version_id, key, run_id, greatest(0, extract(epoch FROM clock_timestamp() - at))::float8 AS age_s,
           version_id || ':' || key = ANY (%(keyed)s::text[]) AS keyed
      FROM starts WHERE at > clock_timestamp() - make_interval(secs => %(since_s)s)
)
SELECT version_id, key, NULL::uuid AS run_id, min(age_s) AS age_s, count(*)::int AS starts
  FROM recent WHERE NOT keyed GROUP BY version_id, key, floor(age_s * 20)
UNION ALL
SELECT version_id, key, run_id, age_s, 1 FROM recent WHERE keyed
