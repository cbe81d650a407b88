-- Containers of which every item has ended, or that are to stop, and what recording them needs. Returns the waiting
-- step of each.
-- Parameters: ids uuid[].
-- Returns: id uuid, run_id uuid, version_id uuid, org_id uuid, key text, path text, index int or null, container_id
--   uuid or null, attempt int, wake_seq int, losses int, server_retry_waits int, timeout_ms int, queue text, type text,
--   priority int, needs_met int, needs_total int, waiting_for text, queued_s float8, kind text, total int, failed int,
--   stopping bool, bytes bigint, options jsonb, elements int, successful int (elements of items that are completed),
--   errors jsonb or null (the first 100: {index, error}), busy bool (something in it still executes).
-- Indexes: primary keys, step_run_item. (`status || ''` hides the partial indexes from the planner: ADR 4.)
SELECT s.id, s.run_id, s.version_id, s.org_id, s.key, s.path, s.index, s.container_id, s.attempt, s.wake_seq, s.losses,
       s.told_waits AS server_retry_waits, s.timeout_ms, s.queue, s.type, s.priority, s.needs_met, s.needs_total,
       s.waiting_for, 0::float8 AS queued_s, f.kind, f.total, f.failed, f.stopping, f.bytes, f.options, i.elements,
       i.successful, e.errors,
       (f.stopping OR f.failed > 0) AND EXISTS (WITH RECURSIVE inner_step AS (
                                  SELECT b.id, b.status FROM headrace_workflows_steprun b
                                      WHERE b.container_id = f.step_run_id
                                  UNION ALL
                                  SELECT b.id, b.status FROM inner_step n
                                    JOIN headrace_workflows_steprun b ON b.container_id = n.id)
                              SELECT 1 FROM inner_step WHERE status IN ('running', 'ready', 'waiting')) AS busy
  FROM headrace_workflows_fanout f
  JOIN headrace_workflows_steprun s ON s.id = f.step_run_id AND s.status || '' = 'waiting' AND s.waiting_for = 'items'
 CROSS JOIN LATERAL (SELECT COALESCE(sum(i.size) FILTER (WHERE i.status <> 'split'), 0)::int AS elements,
                            COALESCE(sum(i.size) FILTER (WHERE i.status = 'completed'), 0)::int AS successful
                       FROM headrace_workflows_item i WHERE i.container_id = f.step_run_id) i
 CROSS JOIN LATERAL (SELECT jsonb_agg(jsonb_build_object('index', x.position, 'error', x.error)
                                      ORDER BY x.position) AS errors
                       FROM (SELECT i.position, i.error FROM headrace_workflows_item i
                              WHERE i.container_id = f.step_run_id AND i.status = 'failed' AND f.failed > 0
                              ORDER BY i.position LIMIT 100) x) e
 WHERE f.step_run_id = ANY (%(ids)s::uuid[]) AND (f.stopping OR f.ended = f.total)
