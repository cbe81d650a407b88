-- Settle the letters whose repairs have ended: where the repair was cancelled, or failed before it came to the letter's
-- step, the letter is open again. (Where the step failed again, the letter was continued with that failure.)
-- Parameters: limit int. Returns: how many letters were looked at. Indexes: dead_letter_repairing, primary keys,
-- step_run_identity.
WITH due AS (
    SELECT d.id, d.replay_run_id, r.status AS run, s.status AS step
      FROM headrace_dlq_deadletter d
      LEFT JOIN headrace_workflows_run r ON r.id = d.replay_run_id
      LEFT JOIN headrace_workflows_steprun failed ON failed.id = d.step_run_id
      LEFT JOIN headrace_workflows_steprun s ON s.run_id = r.id AND s.key = d.step_key
          AND s.path = COALESCE(failed.path, '')
     WHERE d.repairing AND (r.id IS NULL OR r.ended_at IS NOT NULL)
     ORDER BY d.id
     LIMIT %(limit)s
       FOR UPDATE OF d SKIP LOCKED
), settled AS (
    UPDATE headrace_dlq_deadletter d
       SET repairing = false,
           status = CASE WHEN undone.it THEN 'failed' ELSE d.status END,
           replay_run_id = CASE WHEN undone.it THEN NULL ELSE d.replay_run_id END,
           reprocessed_at = CASE WHEN undone.it THEN NULL ELSE d.reprocessed_at END
      FROM due, LATERAL (
               SELECT CASE due.run WHEN 'cancelled' THEN due.step IS NULL OR due.step NOT IN ('completed', 'skipped')
                                   WHEN 'failed' THEN COALESCE(due.step NOT IN ('completed', 'skipped'), false)
                                   ELSE false END AS it) undone
     WHERE d.id = due.id AND d.repairing AND d.status = 'reprocessed'
    RETURNING d.id, due.replay_run_id AS run_id, due.run, undone.it
), told AS (
    INSERT INTO headrace_dlq_deadletterchange (letter_id, what, by, at, reason, run_id, patch)
    SELECT id, 'reopened', 'the engine', clock_timestamp(),
           'Its repair ' || CASE run WHEN 'failed' THEN 'failed' ELSE 'was cancelled' END
           || ' before this step was done.', run_id, '[]'::jsonb
      FROM settled WHERE it
)
SELECT count(*) FROM due
