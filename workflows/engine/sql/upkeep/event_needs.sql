-- How far back the flows of an organization may look for events: what the steps of their current versions, and of those
-- of their open runs, say as `lookback`; and since when a step is ready that will wait for one, or has not looked back.
-- Parameters: org uuid.
-- Returns: lookbacks text[], ready_at timestamptz or null.
-- Indexes: run_live_by_age, step_run_ready, step_run_parked, step_run_running, wait_not_looked_back, primary keys.
SELECT ARRAY(
    SELECT DISTINCT jsonb_path_query(v.definition, '$.**.lookback') #>> '{}'
      FROM headrace_workflows_flowversion v
     WHERE v.id IN (SELECT f.current_id FROM headrace_workflows_flow f WHERE f.organization_id = %(org)s
                     UNION
                    SELECT r.version_id FROM headrace_workflows_run r
                     WHERE r.org_id = %(org)s AND r.status IN ('queued', 'running'))) AS lookbacks,
    least((SELECT min(s.ready_at) FROM headrace_workflows_steprun s WHERE s.org_id = %(org)s
              AND s.type = 'wait_for_event' AND s.status = 'ready' AND s.waiting_for = ''),
          (SELECT min(s.ready_at) FROM headrace_workflows_steprun s WHERE s.org_id = %(org)s
              AND s.type = 'wait_for_event' AND s.status = 'ready' AND s.waiting_for = 'limit'),
          (SELECT min(s.ready_at) FROM headrace_workflows_steprun s WHERE s.org_id = %(org)s
              AND s.type = 'wait_for_event' AND s.status = 'running'),
          (SELECT min(w.since) FROM headrace_workflows_wait w
            WHERE w.org_id = %(org)s AND NOT w.looked_back AND w.kind = 'event')) AS ready_at
