-- Versions of a flow that no run has, and that were followed by another before a time; not the current one. Reads the
-- runs of the flow once.
-- Parameters: flow uuid, before timestamptz, batch bigint.
-- Returns: id uuid.
-- Indexes: flow_version_number, run_by_flow.
SELECT v.id FROM headrace_workflows_flowversion v
  JOIN headrace_workflows_flow f ON f.id = v.flow_id AND f.current_id IS DISTINCT FROM v.id
 WHERE v.flow_id = %(flow)s
   AND EXISTS (SELECT FROM headrace_workflows_flowversion n
                WHERE n.flow_id = v.flow_id AND n.number > v.number AND n.created_at < %(before)s)
   AND v.id NOT IN (SELECT r.version_id FROM headrace_workflows_run r WHERE r.flow_id = %(flow)s)
 ORDER BY v.number LIMIT %(batch)s
