-- The names that a rule of `cancel_on`, or an open wait, of an organization listens to.
-- Parameters: org uuid, names text[] (names and patterns).
-- Returns: name text, cancels bool, is_awaited bool.
-- Indexes: cancel_rule_by_event; wait_by_event.
SELECT * FROM (
    SELECT n.name,
           EXISTS (SELECT FROM headrace_workflows_cancelrule r
                    WHERE r.organization_id = %(org)s AND r.event_name = n.name) AS cancels,
           EXISTS (SELECT FROM headrace_workflows_wait w
                    WHERE w.org_id = %(org)s AND w.kind = 'event' AND w.taken_at IS NULL
                      AND w.event_name = n.name) AS is_awaited
      FROM unnest(%(names)s::text[]) AS n (name)) each WHERE cancels OR is_awaited
