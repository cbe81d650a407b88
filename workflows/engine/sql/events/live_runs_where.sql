-- Live runs of a flow that an event cancels: asked for before it (by the event that started them, else by the time they
-- were made; not before `since`), and with the same value at a path of the event that started them. Of runs whose
-- payload is sealed the caller has to compare that: they are returned with what started them.
-- Parameters: org uuid, flow uuid, event uuid, before timestamptz, since timestamptz or null, path text[] or null,
--   value text or null (JSON).
-- Returns: id uuid, started_by jsonb or null ({data, user}, to be compared; null: it is the same).
-- Index: run_live_by_age.
SELECT r.id, CASE WHEN s.sealed THEN jsonb_build_object('data', r.input, 'user', e."user") END AS started_by
  FROM headrace_workflows_run r
  LEFT JOIN headrace_workflows_event e ON e.id = r.event_id
 CROSS JOIN LATERAL (SELECT %(path)s::text[] IS NOT NULL
                            AND COALESCE(r.input ? '$enc' OR e."user" ? '$enc'
                                         OR r.input @? '$.events[*]."$enc"', false) AS sealed) s
 WHERE r.org_id = %(org)s AND r.flow_id = %(flow)s AND r.status IN ('queued', 'running')
   AND r.cancel_requested_at IS NULL
   AND CASE WHEN e.id IS NULL THEN r.created_at < %(before)s
            ELSE (e.received_at, e.id) < (%(before)s::timestamptz, %(event)s::uuid) END
   AND (%(since)s::timestamptz IS NULL OR r.created_at >= %(since)s::timestamptz)
   AND (%(path)s::text[] IS NULL OR s.sealed
        OR jsonb_build_object('data', r.input, 'user', e."user") #> %(path)s::text[] = %(value)s::jsonb)
 ORDER BY r.id
