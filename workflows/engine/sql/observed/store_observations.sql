-- Add what was seen of Celery tasks to their rows. Signs may come in any order, from several processes: a sign that is
-- older than what is known changes no state; that a task was sent never does; that it is retried does not once a
-- later try has begun.
-- Parameters: seen text (a JSON array of {id, name, state, queue, hostname, root_id, parent_id, group_id, retries,
--   starts, arguments, error, message, sent_at, started_at, ended_at, seen_at (seconds of the epoch); but for id, state
--   and seen_at each may be left out}), org text (the slug of the organization that they belong to; empty: the oldest).
-- Returns: nothing.
-- Index: primary key.
INSERT INTO headrace_workflows_observedtask AS o (id, org_id, name, state, queue, hostname, root_id, parent_id,
                                                  group_id, retries, starts, arguments, error, message, sent_at,
                                                  started_at, ended_at, seen_at)
SELECT s.id, (SELECT g.id FROM headrace_workflows_organization g
    WHERE %(org)s IN ('', g.slug) ORDER BY g.created_at LIMIT 1),
       COALESCE(s.name, ''), s.state, COALESCE(s.queue, ''), COALESCE(s.hostname, ''), COALESCE(s.root_id, ''),
       COALESCE(s.parent_id, ''), COALESCE(s.group_id, ''), COALESCE(s.retries, 0), COALESCE(s.starts, 0),
       COALESCE(s.arguments, ''), COALESCE(s.error, ''), COALESCE(s.message, ''), to_timestamp(s.sent_at),
       to_timestamp(s.started_at), to_timestamp(s.ended_at), to_timestamp(s.seen_at)
  FROM json_to_recordset(%(seen)s::json) AS s (id text, name text, state text, queue text, hostname text, root_id text,
       parent_id text, group_id text, retries int, starts int, arguments text, error text, message text, sent_at float8,
       started_at float8, ended_at float8, seen_at float8)
 ORDER BY s.id
    ON CONFLICT (id) DO UPDATE SET
       name = COALESCE(NULLIF(EXCLUDED.name, ''), o.name),
       queue = COALESCE(NULLIF(EXCLUDED.queue, ''), o.queue),
       hostname = COALESCE(NULLIF(EXCLUDED.hostname, ''), o.hostname),
       root_id = COALESCE(NULLIF(EXCLUDED.root_id, ''), o.root_id),
       parent_id = COALESCE(NULLIF(EXCLUDED.parent_id, ''), o.parent_id),
       group_id = COALESCE(NULLIF(EXCLUDED.group_id, ''), o.group_id),
       arguments = COALESCE(NULLIF(EXCLUDED.arguments, ''), o.arguments),
       retries = greatest(EXCLUDED.retries, o.retries),
       starts = o.starts + EXCLUDED.starts,
       sent_at = COALESCE(least(o.sent_at, EXCLUDED.sent_at), o.sent_at, EXCLUDED.sent_at),
       started_at = greatest(o.started_at, EXCLUDED.started_at),
       (state, error, message, ended_at) = (
           SELECT CASE WHEN is_news THEN EXCLUDED.state ELSE o.state END,
                  CASE WHEN is_news THEN EXCLUDED.error ELSE o.error END,
                  CASE WHEN is_news THEN EXCLUDED.message ELSE o.message END,
                  CASE WHEN is_news THEN EXCLUDED.ended_at ELSE o.ended_at END
             FROM (SELECT o.state = 'sent'
                          OR (EXCLUDED.state <> 'sent' AND EXCLUDED.seen_at >= o.seen_at
                              AND (EXCLUDED.state = 'retrying' AND o.started_at > EXCLUDED.started_at) IS NOT TRUE)
                      AS is_news) n),
       seen_at = greatest(o.seen_at, EXCLUDED.seen_at)
