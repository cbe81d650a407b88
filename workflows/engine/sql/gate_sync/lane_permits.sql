-- How many permits each lane may have out, by what live workers announce. A worker of an earlier version announces no
-- lanes: as many as it can execute, and as many again in the broker as it has slots. Returns a row per lane.
-- Parameters: silent_s float8.
-- Returns: lane text, places int, shared bool (there is more than one organization).
-- Index: worker_seen.
SELECT l.lane, sum(l.places::int)::int AS places,
       (SELECT count(*) > 1 FROM (SELECT FROM headrace_workflows_organization LIMIT 2) o) AS shared
  FROM headrace_workflows_worker w
 CROSS JOIN LATERAL (
    SELECT key AS lane, value AS places FROM jsonb_each_text(w.lanes)
    UNION ALL
    SELECT queue, (w.slots + w.capacity)::text FROM unnest(w.queues) AS q (queue) WHERE w.lanes = '{}'::jsonb
 ) l
 WHERE w.seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)
 GROUP BY l.lane
