-- Tasks that were sent, and that are nowhere any more.
-- Parameters: ids text[].
-- Returns: id text.
-- Index: primary key.
UPDATE headrace_workflows_observedtask SET state = 'lost', ended_at = clock_timestamp(), seen_at = clock_timestamp()
 WHERE id = ANY (%(ids)s::text[]) AND state = 'sent'
RETURNING id
