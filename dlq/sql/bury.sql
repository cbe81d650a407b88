-- One dead letter per failure, within the transaction that records it; and its group, where it is the first of its kind.
-- Parameters: failures: a JSON array as text of {group_id, org, run, step_run, key, type, category, fingerprint,
--   name, message, stack, normal, location, attempts, alert}; auto_s float8 (after how long a rate-limited one is
--   replayed by itself; 0: never) and auto_max int (how often in a row).
-- Indexes: primary keys, dead_letter_by_replay.
WITH failure AS (
    SELECT * FROM json_to_recordset(%(failures)s::json) AS f (group_id uuid, org uuid, run uuid, step_run uuid,
        key text, type text, category text, fingerprint text, name text, message text, stack text, normal text,
        location text, attempts int, alert bool)
), new_group AS (
    INSERT INTO dlq_deadlettergroup (id, org_id, fingerprint, step_type, category, error_name, message, location, first_seen)
    SELECT DISTINCT ON (f.group_id) f.group_id, f.org, f.fingerprint, f.type, f.category, f.name, f.normal, f.location,
           clock_timestamp()
      FROM failure f
     WHERE NOT EXISTS (SELECT 1 FROM dlq_deadlettergroup g WHERE g.id = f.group_id)
     ORDER BY f.group_id
    ON CONFLICT DO NOTHING
), prepared AS (
    SELECT f.*, r.flow_id, r.event_name, r.event_id, r.input, COALESCE(before.auto_replays, 0) AS auto_replays,
           COALESCE(g.auto_replay_s, CASE WHEN f.category = 'rate_limited' THEN %(auto_s)s::float8 ELSE 0 END) AS wait_s
      FROM failure f
      JOIN workflows_run r ON r.id = f.run
      LEFT JOIN dlq_deadlettergroup g ON g.id = f.group_id
      LEFT JOIN LATERAL (SELECT max(d.auto_replays) AS auto_replays FROM dlq_deadletter d WHERE d.replay_run_id = f.run)
           before ON true
)
INSERT INTO dlq_deadletter (id, org_id, group_id, run_id, step_run_id, flow_id, step_key, step_type, category, event_name,
    event_id, event_data, error_name, error_message, error_stack, attempts, status, auto_replays, auto_replay_at, alert_due,
    failed_at, created_at)
SELECT headrace_uuid7(), p.org, p.group_id, p.run, p.step_run, p.flow_id, p.key, p.type, p.category,
       COALESCE(NULLIF(p.event_name, ''), 'headrace/manual'), p.event_id, p.input, p.name, p.message, p.stack, p.attempts,
       'failed', p.auto_replays,
       CASE WHEN p.wait_s > 0 AND p.auto_replays < %(auto_max)s
            THEN clock_timestamp() + make_interval(secs => p.wait_s) END,
       p.alert, clock_timestamp(), clock_timestamp()
  FROM prepared p
 ORDER BY p.group_id
ON CONFLICT DO NOTHING
