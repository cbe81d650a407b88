-- What live workers say of the queues: the newest dispatch time that was claimed, messages held, steps executing.
-- Returns a row per queue.
-- Parameters: silent_s float8.
-- Returns: queue text, workers int, claimed_until float8 or null, unclaimed int, active int, slots int.
-- Index: worker_seen.
SELECT q.queue, count(*)::int AS workers, max((w.claimed_until ->> q.queue)::float8) AS claimed_until,
       sum(w.unclaimed)::int AS unclaimed, sum(w.active)::int AS active, sum(w.slots)::int AS slots
  FROM headrace_workflows_worker w CROSS JOIN unnest(w.queues) AS q (queue)
 WHERE w.seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)
 GROUP BY q.queue
