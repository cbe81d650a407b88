-- Containers begin, in the transaction that makes them wait: their state, and their items. What a resumed run had done
-- already (the same value, completed) is taken over from its container: items, the rounds of a loop, the halves of a
-- batch.
-- Parameters: fan_outs text (a JSON array of {id (of the step run), kind, parallelism, max_failures, pause_ms, sinks,
--   options, items: [[position, size, value], …]}).
-- Returns: step_run_id uuid.
-- Indexes: primary keys, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH given AS (
    SELECT f.id, f.kind, f.parallelism, f.max_failures, f.pause_ms, f.sinks, f.options, s.org_id, s.run_id,
           old.id AS old_id,
           COALESCE(CASE WHEN f.kind IN ('loop', 'batch') AND jsonb_array_length(f.items) > 0
                          AND (f.kind = 'loop' OR f.items = (
                                SELECT jsonb_agg(jsonb_build_array(i.position, i.size, i.value) ORDER BY i.index)
                                  FROM headrace_workflows_item i
                                 WHERE i.container_id = old.id AND i.index < jsonb_array_length(f.items)))
                         THEN (SELECT jsonb_agg(jsonb_build_array(i.position, i.size, i.value) ORDER BY i.index)
                                 FROM headrace_workflows_item i WHERE i.container_id = old.id) END, f.items) AS items
      FROM json_to_recordset(%(fan_outs)s::json) AS f (id uuid, kind text, parallelism int, max_failures int,
           pause_ms int, sinks int, options jsonb, items jsonb)
      JOIN headrace_workflows_steprun s ON s.id = f.id AND s.status || '' = 'waiting' AND s.waiting_for = 'items'
      JOIN headrace_workflows_run r ON r.id = s.run_id
      LEFT JOIN headrace_workflows_steprun old ON s.takes_items AND old.run_id = r.origin_id AND old.key = s.key
                                        AND old.path = ''
), item AS MATERIALIZED (
    SELECT g.id AS container_id, (e.nr - 1)::int AS index, (e.item->>0)::int AS position, (e.item->>1)::int AS size,
           e.item->2 AS value, done.index AS old_index, done.status AS old_status, g.old_id
      FROM given g CROSS JOIN LATERAL jsonb_array_elements(g.items) WITH ORDINALITY AS e (item, nr)
      LEFT JOIN headrace_workflows_item done ON done.container_id = g.old_id AND done.index = (e.nr - 1)::int
            AND done.status IN ('completed', 'split') AND done.value = e.item->2 AND done.size = (e.item->>1)::int
), fan AS (
    INSERT INTO headrace_workflows_fanout (step_run_id, org_id, run_id, kind, total, parallelism, next_index, open,
                                           ended, failed, max_failures, pause_ms, body_sinks, options, stopping,
                                           changed_at)
    SELECT g.id, g.org_id, g.run_id, g.kind, jsonb_array_length(g.items), g.parallelism, 0, 0,
           (SELECT count(*) FROM item i WHERE i.container_id = g.id AND i.old_index IS NOT NULL), 0, g.max_failures,
           g.pause_ms, g.sinks, g.options, false, clock_timestamp()
      FROM given g
        ON CONFLICT (step_run_id) DO NOTHING
    RETURNING step_run_id
), items AS (
    INSERT INTO headrace_workflows_item (container_id, index, position, size, value, status, sinks_left)
    SELECT i.container_id, i.index, i.position, i.size, i.value,
           COALESCE(i.old_status, 'pending'), 0
      FROM item i JOIN fan ON fan.step_run_id = i.container_id
), taken_over AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, index, container_id,
                                            position, type, queue, priority, status, attempt, losses, told_waits,
                                            needs_total, needs_left, needs_met, is_sink, timeout_ms, wake_seq,
                                            waiting_for, dispatch_count, created_at, ready_at, started_at, ended_at,
                                            output, reason, memoized_from)
    SELECT headrace_uuid7(), o.org_id, c.run_id, c.version_id, st.id, o.key, o.path, o.index, i.container_id,
           o.position, o.type, o.queue, c.priority, o.status, o.attempt, 0, 0, o.needs_total, 0, o.needs_met, o.is_sink,
           o.timeout_ms, 0, '', 0, clock_timestamp(), o.ready_at, o.started_at, o.ended_at, o.output, o.reason,
           COALESCE(o.memoized_from, o.id)
      FROM item i
      JOIN fan ON fan.step_run_id = i.container_id AND i.old_status = 'completed'
      JOIN headrace_workflows_steprun c ON c.id = i.container_id
      JOIN headrace_workflows_steprun o ON o.container_id = i.old_id AND o.index = i.old_index
                              AND o.status IN ('completed', 'failed', 'skipped')
      JOIN headrace_workflows_step st ON st.version_id = c.version_id AND st.key = o.key
)
SELECT step_run_id FROM fan
