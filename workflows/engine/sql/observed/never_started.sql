-- Tasks that were sent a while ago, and of which no worker has told, while a task that was sent later to the same queue
-- has been started: the broker is asked where they are.
-- Parameters: after_s float8, batch bigint.
-- Returns: id text, queue text.
-- Indexes: observed_open, observed_by_time.
SELECT o.id, o.queue FROM headrace_workflows_observedtask o
 WHERE o.state IN ('sent', 'started', 'retrying') AND o.state || '' = 'sent' AND o.queue <> '' AND o.started_at IS NULL
   AND o.seen_at < clock_timestamp() - make_interval(secs => %(after_s)s)
   AND EXISTS (SELECT FROM headrace_workflows_observedtask l
                WHERE l.queue = o.queue AND l.sent_at > o.sent_at AND l.started_at IS NOT NULL
                  AND l.seen_at > o.seen_at)
 ORDER BY o.seen_at LIMIT %(batch)s
