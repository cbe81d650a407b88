-- Insert a run that takes over outcomes of an earlier one. The parameters are those of insert_runs, for one run.
-- Returns the steps that are ready.
-- Parameters: id uuid, input text, priority int, event_id uuid or null, steps text (a JSON array of {key, status,
--   needs_left, needs_met, source (the step run whose outcome is taken over; absent for a step that runs),
--   takes_items}), org uuid, flow uuid, version uuid, event_name text, trigger text, user_id text, sinks int, start_ms
--   bigint or null, finish_ms bigint or null, compensations bool, follow_up bool, origin_id uuid or null, origin_kind
--   text, repair_root_id uuid or null, repair_number int, parent_id uuid or null, parent_policy text, awaited bool,
--   tags text[].
-- Returns: id uuid, run_id uuid, version_id uuid, key text, queue text, type text, priority int, attempt int,
--   needs_total int, needs_met int, needs_prepare bool.
-- Indexes: headrace_workflows_step (version, key), primary keys.
WITH planned AS (
    SELECT * FROM json_to_recordset(%(steps)s::json) AS p (key text, status text, needs_left int, needs_met int,
                                                           source uuid, takes_items bool)
), new_run AS (
    INSERT INTO headrace_workflows_run (id, org_id, flow_id, version_id, event_id, event_name, trigger, user_id, status,
                                        priority, input, sinks_left, cancel_reason, created_at, timeout_at, finish_ms,
                                        has_hooks, follow_up, origin_id, origin_kind, repair_root_id, repair_number,
                                        parent_id, parent_policy, awaited, tags)
    VALUES (%(id)s, %(org)s, %(flow)s, %(version)s, %(event_id)s::uuid, %(event_name)s, %(trigger)s, %(user_id)s,
            'queued', %(priority)s, %(input)s::jsonb, %(sinks)s, '', clock_timestamp(),
            clock_timestamp() + make_interval(secs => %(start_ms)s::bigint / 1000.0), %(finish_ms)s::bigint,
            %(compensations)s, %(follow_up)s, %(origin_id)s::uuid, %(origin_kind)s, %(repair_root_id)s::uuid,
            %(repair_number)s, %(parent_id)s::uuid, %(parent_policy)s, %(awaited)s, %(tags)s::text[])
    RETURNING id, priority
), new_steps AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, position, type, queue,
                                            priority, status, attempt, losses, told_waits, needs_total, needs_left,
                                            needs_met, is_sink, timeout_ms, wake_seq, waiting_for, dispatch_count,
                                            created_at, ready_at, started_at, ended_at, output, reason, memoized_from,
                                            takes_items)
    SELECT headrace_uuid7(), %(org)s, r.id, %(version)s, s.id, s.key, '', s.position, s.type, s.queue, r.priority,
           p.status, COALESCE(o.attempt, 1), 0, 0, cardinality(s.needs), p.needs_left, p.needs_met, s.is_sink,
           s.timeout_ms, 0, '', 0, clock_timestamp(),
           CASE WHEN p.status = 'ready' THEN clock_timestamp() ELSE o.ready_at END,
           o.started_at, o.ended_at, o.output, COALESCE(o.reason, ''), COALESCE(o.memoized_from, o.id),
           COALESCE(p.takes_items, false)
      FROM new_run r CROSS JOIN planned p
      JOIN headrace_workflows_step s ON s.version_id = %(version)s AND s.key = p.key
      LEFT JOIN headrace_workflows_steprun o ON o.id = p.source
    RETURNING id, run_id, version_id, key, queue, type, priority, status, attempt, needs_total, needs_met
)
SELECT id, run_id, version_id, key, queue, type, priority, attempt, needs_total, needs_met, true AS needs_prepare
  FROM new_steps WHERE status = 'ready'
