-- One dead letter per failure, within the transaction that records it; and its group, where it is the first of its
-- kind. A failure of a repair continues the letter that the step has in the chain of repairs, and moves it to the group
-- of its new cause; both failures are kept in the letter's history.
-- Parameters: failures: a JSON array as text of {group_id, org, run, step_run, key, type, category, fingerprint,
--   name, message, stack, normal, location, attempts, alert}; auto_s float8 (after how long a rate-limited one is
--   replayed by itself; 0: never) and auto_max int (how often in a row).
-- Indexes: primary keys, dead_letter_once, dead_letter_by_replay.
WITH failure AS (
    SELECT * FROM json_to_recordset(%(failures)s::json) AS f (group_id uuid, org uuid, run uuid, step_run uuid,
        key text, type text, category text, fingerprint text, name text, message text, stack text, normal text,
        location text, attempts int, alert bool)
), new_group AS (
    INSERT INTO headrace_dlq_deadlettergroup (id, org_id, fingerprint, step_type, category, error_name, message,
                                              location, first_seen)
    SELECT DISTINCT ON (f.group_id) f.group_id, f.org, f.fingerprint, f.type, f.category, f.name, f.normal, f.location,
           clock_timestamp()
      FROM failure f
     WHERE NOT EXISTS (SELECT 1 FROM headrace_dlq_deadlettergroup g WHERE g.id = f.group_id)
     ORDER BY f.group_id
    ON CONFLICT DO NOTHING
), prepared AS (
    SELECT f.*, r.flow_id, r.event_name, r.event_id, r.input, COALESCE(r.repair_root_id, r.id) AS first_run,
           CASE WHEN f.step_run IS NULL THEN '(' || f.type || ')'
                ELSE COALESCE(NULLIF(s.path, '') || '/', '') || f.key END
               AS place, clock_timestamp() AS at,
           COALESCE(before.auto_replays, 0) AS auto_replays,
           COALESCE(g.auto_replay_s, CASE WHEN f.category = 'rate_limited' THEN %(auto_s)s::float8 ELSE 0 END) AS wait_s
      FROM failure f
      JOIN headrace_workflows_run r ON r.id = f.run
      LEFT JOIN headrace_workflows_steprun s ON s.id = f.step_run
      LEFT JOIN headrace_dlq_deadlettergroup g ON g.id = f.group_id
      LEFT JOIN LATERAL (SELECT max(d.auto_replays) AS auto_replays FROM headrace_dlq_deadletter d
                           WHERE d.replay_run_id = f.run) before ON true
), latest AS (  -- of two that were repaired by force at the same time; both are in the history
    SELECT DISTINCT ON (p.first_run, p.place) p.* FROM prepared p ORDER BY p.first_run, p.place, p.run DESC
), earlier AS (
    SELECT d.id, d.run_id, d.failed_at, d.error_name, d.error_message, d.first_run_id, d.place
      FROM latest p JOIN headrace_dlq_deadletter d ON d.first_run_id = p.first_run AND d.place = p.place
), buried AS (
    INSERT INTO headrace_dlq_deadletter AS d (id, org_id, group_id, run_id, first_run_id, place, step_run_id, flow_id,
                                              step_key, step_type, category, event_name, event_id, event_data,
                                              error_name, error_message, error_stack, attempts, status, auto_replays,
                                              auto_replay_at, alert_due, failed_at, created_at)
    SELECT headrace_uuid7(), p.org, p.group_id, p.run, p.first_run, p.place, p.step_run, p.flow_id, p.key, p.type,
           p.category, COALESCE(NULLIF(p.event_name, ''), 'headrace/manual'), p.event_id, p.input, p.name, p.message,
           p.stack, p.attempts, 'failed', p.auto_replays,
           CASE WHEN p.wait_s > 0 AND p.auto_replays < %(auto_max)s
                THEN p.at + make_interval(secs => p.wait_s) END,
           p.alert, p.at, p.at
      FROM latest p
     ORDER BY p.first_run, p.place
    ON CONFLICT (first_run_id, place) DO UPDATE
       SET group_id = EXCLUDED.group_id, run_id = EXCLUDED.run_id, step_run_id = EXCLUDED.step_run_id,
           step_type = EXCLUDED.step_type, category = EXCLUDED.category, event_data = EXCLUDED.event_data,
           error_name = EXCLUDED.error_name, error_message = EXCLUDED.error_message, error_stack = EXCLUDED.error_stack,
           attempts = EXCLUDED.attempts, status = 'failed', reason = '', replay_run_id = NULL, reprocessed_at = NULL,
           repairing = false, auto_replay_at = EXCLUDED.auto_replay_at, auto_replays = EXCLUDED.auto_replays,
           alert_due = EXCLUDED.alert_due, failed_at = EXCLUDED.failed_at
     WHERE d.run_id <> EXCLUDED.run_id
    RETURNING d.id, d.first_run_id, d.place, d.created_at <> d.failed_at AS continued
), first_time AS (
    SELECT e.id, e.run_id, e.failed_at, e.error_name, e.error_message
      FROM earlier e JOIN buried b ON b.id = e.id
     WHERE NOT EXISTS (SELECT 1 FROM headrace_dlq_deadletterchange c WHERE c.letter_id = e.id
                          AND c.what IN ('failed', 'failed again'))
)
INSERT INTO headrace_dlq_deadletterchange (letter_id, what, by, at, reason, run_id, patch)
SELECT id, 'failed', 'the engine', failed_at, error_name || ': ' || error_message, run_id, '[]'::jsonb FROM first_time
UNION ALL
SELECT b.id, 'failed again', 'the engine', p.at, p.name || ': ' || p.message, p.run, '[]'::jsonb
  FROM buried b
  JOIN prepared p ON p.first_run = b.first_run_id AND p.place = b.place
 WHERE b.continued
