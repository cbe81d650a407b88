-- Of ended runs those that something refers to, and what: they are kept. A statement of its own after the locks are
-- taken, so that it sees what was committed before (ADR 33).
-- Parameters: ids uuid[], operations text[] (the bulk actions over ended runs).
-- Returns: id uuid, reason text.
-- Indexes: primary keys, run_by_parent, run_by_origin, run_repair_once, wait_by_child, wait_taken_at, cron_fire_queued,
--   operation_by_org.
WITH wanted AS MATERIALIZED (
    SELECT id, org_id, flow_id, status, follow_up, parent_id, repair_root_id, repair_number
      FROM headrace_workflows_run WHERE id = ANY (%(ids)s::uuid[])
), judged AS (
    SELECT r.id, CASE
        WHEN r.follow_up AND r.status = 'failed' THEN 'its on_failure flow is to start'
        WHEN r.parent_id IS NOT NULL AND EXISTS (
            SELECT FROM headrace_workflows_run p WHERE p.id = r.parent_id AND p.ended_at IS NULL)
            THEN 'the run that started it is open'
        WHEN EXISTS (WITH RECURSIVE below AS (
                SELECT c.id, c.ended_at, 1 AS depth FROM headrace_workflows_run c WHERE c.parent_id = r.id
                UNION ALL
                SELECT c.id, c.ended_at, b.depth + 1 FROM below b
                    JOIN headrace_workflows_run c ON c.parent_id = b.id WHERE b.depth < 8)
            SELECT FROM below WHERE ended_at IS NULL) THEN 'a run that it started is open'
        WHEN EXISTS (SELECT FROM headrace_workflows_run o WHERE o.origin_id = r.id AND o.ended_at IS NULL)
            THEN 'a repeat of it, or what handles its failure, is open'
        WHEN EXISTS (SELECT FROM headrace_workflows_run o
                      WHERE o.repair_root_id = COALESCE(r.repair_root_id, r.id) AND o.ended_at IS NULL)
            THEN 'a repair of its failure is open'
        WHEN r.repair_root_id IS NOT NULL AND (
            EXISTS (SELECT FROM headrace_workflows_run o WHERE o.id = r.repair_root_id)
            OR EXISTS (SELECT FROM headrace_workflows_run o
                        WHERE o.repair_root_id = r.repair_root_id AND o.repair_number < r.repair_number))
            THEN 'the failure that it repairs is kept'
        WHEN EXISTS (SELECT FROM headrace_workflows_wait w
                      WHERE w.child_id = r.id AND w.kind = 'run' AND w.taken_at IS NULL)
          OR EXISTS (SELECT FROM headrace_workflows_wait w WHERE w.child_id = r.id AND w.taken_at IS NOT NULL)
            THEN 'a step waits for it'
        WHEN EXISTS (SELECT FROM headrace_workflows_cronfire f
                      WHERE f.flow_id = r.flow_id AND f.outcome = 'queued' AND f.run_id = r.id)
            THEN 'a cron fire waits for it'
        WHEN EXISTS (SELECT FROM headrace_workflows_bulkoperation o
                      WHERE o.org_id = r.org_id AND o.status <> 'completed' AND o.action = ANY (%(operations)s::text[])
                        AND r.id <= o.upto AND (o.cursor IS NULL OR r.id > o.cursor))
            THEN 'a bulk operation is open'
        WHEN EXISTS (SELECT FROM headrace_workflows_importedrun i
                      WHERE i.run_id = r.id AND i.kept_until > clock_timestamp()) THEN 'it was imported'
        END AS reason
      FROM wanted r
)
SELECT id, reason FROM judged WHERE reason IS NOT NULL
