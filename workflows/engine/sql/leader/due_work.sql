-- What there is to do: the names of the sweeps and jobs that would find something. It may name one that finds nothing
-- (an item that is put off, say), and never leaves one out that would.
-- Parameters: queues text[], event_late_s float8, grace_s float8, silent_s float8.
-- Returns: names text[], outstanding bool (a step was dispatched and is not claimed yet), revision bigint (of the
--   policies), workers text (another one where live workers, what they announce, or whom they serve have changed).
-- Indexes: step_run_ready, step_run_running, step_run_unmarked, run_unsettled, run_timeout, run_follow_up,
--   wait_not_looked_back, wait_taken_at, wait_by_child, wait_reminder, fan_out_over, event_unmatched_by_org,
--   trigger_next_fire, cron_fire_queued, operation_running, flow_to_delete, worker_seen, primary keys.
SELECT ARRAY(SELECT w.name FROM (VALUES
    ('undispatched steps', EXISTS (
        SELECT FROM headrace_workflows_steprun
         WHERE status = 'ready' AND waiting_for = '' AND dispatched_at IS NULL AND queue = ANY (%(queues)s::text[])
           AND ready_at < clock_timestamp() - interval '1 second')),
    ('lost workers', EXISTS (
        SELECT FROM headrace_workflows_steprun WHERE status = 'running' AND lease_until < clock_timestamp())),
    ('lost joins', EXISTS (SELECT FROM headrace_workflows_steprun WHERE status = 'pending' AND needs_left = 0)),
    ('timeouts of runs', EXISTS (
        SELECT FROM headrace_workflows_run
         WHERE status IN ('queued', 'running') AND timeout_at IS NOT NULL AND timeout_at <= statement_timestamp()
           AND cancel_requested_at IS NULL AND error IS NULL)),
    ('unsettled runs', EXISTS (
        SELECT FROM headrace_workflows_run
         WHERE status IN ('queued', 'running') AND (error IS NOT NULL OR cancel_requested_at IS NOT NULL))),
    ('waits that have not looked back', EXISTS (
        SELECT FROM headrace_workflows_wait
         WHERE NOT looked_back AND created_at < statement_timestamp() - make_interval(secs => %(grace_s)s))),
    ('ends of waits', EXISTS (
        SELECT FROM headrace_workflows_wait
         WHERE taken_at IS NOT NULL AND taken_at < statement_timestamp() - make_interval(secs => %(grace_s)s))),
    ('ends of containers', EXISTS (
        SELECT FROM headrace_workflows_fanout
         WHERE NOT concluded AND (stopping OR ended = total)
           AND changed_at < statement_timestamp() - make_interval(secs => %(grace_s)s))),
    ('ends of awaited runs', EXISTS (
        SELECT FROM headrace_workflows_wait w LEFT JOIN headrace_workflows_run c ON c.id = w.child_id
         WHERE w.kind = 'run' AND w.taken_at IS NULL AND (c.id IS NULL OR c.ended_at IS NOT NULL))),
    ('left-over events', EXISTS (
        SELECT FROM headrace_workflows_event
         WHERE matched_at IS NULL
           AND received_at < clock_timestamp() - make_interval(secs => %(event_late_s)s))),
    ('follow-up', EXISTS (SELECT FROM headrace_workflows_run WHERE follow_up AND status = 'failed')),
    ('schedules', EXISTS (
        SELECT FROM headrace_workflows_trigger WHERE kind = 'cron' AND enabled AND next_fire_at <= clock_timestamp())
        OR EXISTS (SELECT FROM headrace_workflows_cronfire WHERE outcome = 'queued')),
    ('approvals', EXISTS (
        SELECT FROM headrace_workflows_wait
         WHERE taken_at IS NULL AND remind_at IS NOT NULL AND remind_at <= clock_timestamp() AND kind = 'approval')),
    ('deletion of flows', EXISTS (SELECT FROM headrace_workflows_flow WHERE deletion_asked_at IS NOT NULL)),
    ('Celery tasks', EXISTS (SELECT FROM headrace_workflows_celerytask)),
    ('waits for rows', EXISTS (SELECT FROM headrace_workflows_modelwait WHERE changed_at IS NOT NULL)),
    ('bulk', EXISTS (SELECT FROM headrace_workflows_bulkoperation WHERE status = 'running'))
    ) AS w (name, is_due) WHERE w.is_due) AS names,
    EXISTS (SELECT FROM headrace_workflows_steprun
             WHERE status = 'ready' AND waiting_for = '' AND queue = ANY (%(queues)s::text[])
               AND dispatched_at IS NOT NULL) AS outstanding,
    COALESCE((SELECT max(id) FROM headrace_throttling_throttlechange), 0) AS revision,
    md5(concat((SELECT count(*) FROM (SELECT FROM headrace_workflows_organization LIMIT 2) o),
               (SELECT string_agg(concat_ws(' ', w.id, w.lanes, w.queues, w.slots, w.capacity), ',' ORDER BY w.id)
                  FROM headrace_workflows_worker w
                 WHERE w.seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)))) AS workers
