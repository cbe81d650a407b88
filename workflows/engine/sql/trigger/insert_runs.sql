-- Insert runs of one version with all their steps: roots become ready (or sleep until run_at), the rest is pending.
-- Returns the ready roots. A run that is asked for by an API key is made only while that key is in force and may start
-- flows, the version is the published one of a flow that starts what arrives, and no quota has to be asked; without a
-- key the caller has checked that. A step's id is made of its run's and its position (engine/state/step_ids.py): who
-- records a step knows the id of the next one.
-- Parameters: org uuid, flow uuid, version uuid, ids uuid[], inputs text[], event_names text[], user_ids text[],
--   priorities int[], event_ids uuid[] with nulls, gather_keys text[], gathered int[], singleton_keys text[],
--   newest_at timestamptz[] with nulls, tags text[] (each an array as Postgres writes it), api_keys text[] with nulls
--   (digests; one each per run), trigger text, sinks int, run_at timestamptz or null, dispatched bool (roots without a
--   condition are published by the caller right after the commit), start_ms bigint or null, finish_ms bigint or null
--   (how long it may wait for its start, and take from then on), compensations bool, follow_up bool, origin_id uuid or
--   null, origin_kind text, repair_root_id uuid or null, repair_number int (of a repair, else null and 0), parent_id
--   uuid or null, parent_policy text, awaited bool.
-- Returns: id uuid, run_id uuid, version_id uuid, key text, queue text, type text, priority int, attempt int,
--   needs_total int, needs_met int, needs_prepare bool.
-- Index: headrace_workflows_step (version, position).
WITH wanted AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(inputs)s::text[]::jsonb[], %(priorities)s::int[], %(event_ids)s::uuid[],
                         %(event_names)s::text[], %(user_ids)s::text[], %(gather_keys)s::text[], %(gathered)s::int[],
                         %(singleton_keys)s::text[], %(newest_at)s::timestamptz[], %(tags)s::text[],
                         %(api_keys)s::text[])
        AS w (id, input, priority, event_id, event_name, user_id, gather_key, gathered, singleton_key, newest_at,
              tags, api_key)
     WHERE w.api_key IS NULL
        OR (EXISTS (SELECT FROM headrace_workflows_accesskey k
                     WHERE k.digest = w.api_key AND k.organization_id = %(org)s AND k.kind = 'api'
                       AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
                       AND (cardinality(k.scopes) = 0 OR 'run_flows' = ANY (k.scopes)))
            AND EXISTS (SELECT FROM headrace_workflows_flow f
                JOIN headrace_workflows_organization o ON o.id = f.organization_id
                         WHERE f.id = %(flow)s AND f.current_id = %(version)s AND f.archived_at IS NULL
                           AND NOT f.skips_arrivals AND NOT o.skips_arrivals AND o.events_per_s IS NULL
                           AND NOT o.is_full))
), new_runs AS (
    INSERT INTO headrace_workflows_run (id, org_id, flow_id, version_id, event_id, event_name, trigger, user_id, status,
                                        priority, input, sinks_left, cancel_reason, created_at, timeout_at, finish_ms,
                                        has_hooks, follow_up, origin_id, origin_kind, repair_root_id, repair_number,
                                        parent_id, parent_policy, awaited, gather_key, gathered, singleton_key,
                                        newest_at, tags)
    SELECT w.id, %(org)s, %(flow)s, %(version)s, w.event_id, w.event_name, %(trigger)s, w.user_id, 'queued',
           w.priority, w.input, %(sinks)s, '', clock_timestamp(),
           COALESCE(%(run_at)s::timestamptz, clock_timestamp()) + make_interval(secs => %(start_ms)s::bigint / 1000.0),
           %(finish_ms)s::bigint, %(compensations)s, %(follow_up)s, %(origin_id)s::uuid, %(origin_kind)s,
           %(repair_root_id)s::uuid, %(repair_number)s, %(parent_id)s::uuid, %(parent_policy)s, %(awaited)s,
           w.gather_key, w.gathered, w.singleton_key, w.newest_at, w.tags::text[]
      FROM wanted w
    RETURNING id, priority
), new_steps AS (
    INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, position, type, queue,
                                            priority, status, attempt, losses, told_waits, needs_total, needs_left,
                                            needs_met, is_sink, timeout_ms, wake_at, wake_seq, waiting_for,
                                            dispatched_at, dispatch_count, created_at, ready_at)
    SELECT encode(set_byte(set_byte(set_byte(uuid_send(r.id), 8, 128 + (s.position >> 8)), 9, s.position & 255),
                           15, 255 - get_byte(uuid_send(r.id), 15)), 'hex')::uuid,
           %(org)s, r.id, %(version)s, s.id, s.key, '', s.position, s.type, s.queue, r.priority,
           CASE WHEN cardinality(s.needs) > 0 THEN 'pending' WHEN %(run_at)s::timestamptz IS NULL THEN 'ready'
                ELSE 'waiting' END,
           1, 0, 0, cardinality(s.needs), cardinality(s.needs), 0, s.is_sink, s.timeout_ms,
           CASE WHEN cardinality(s.needs) = 0 THEN %(run_at)s::timestamptz END, 0,
           CASE WHEN cardinality(s.needs) = 0 AND %(run_at)s::timestamptz IS NOT NULL THEN 'delay' ELSE '' END,
           CASE WHEN cardinality(s.needs) = 0 AND s.condition = '' AND %(dispatched)s
                     AND %(run_at)s::timestamptz IS NULL
                THEN clock_timestamp() END,
           CASE WHEN cardinality(s.needs) = 0 AND s.condition = '' AND %(dispatched)s
                     AND %(run_at)s::timestamptz IS NULL
                THEN 1 ELSE 0 END,
           clock_timestamp(),
           CASE WHEN cardinality(s.needs) = 0 AND %(run_at)s::timestamptz IS NULL THEN clock_timestamp() END
      FROM new_runs r CROSS JOIN headrace_workflows_step s
     WHERE s.version_id = %(version)s AND NOT s.is_hook AND s.container = ''
    RETURNING id, run_id, version_id, key, queue, type, priority, status, attempt, needs_total, needs_met, dispatched_at
)
SELECT id, run_id, version_id, key, queue, type, priority, attempt, needs_total, needs_met,
       dispatched_at IS NULL AS needs_prepare
  FROM new_steps WHERE status = 'ready'
