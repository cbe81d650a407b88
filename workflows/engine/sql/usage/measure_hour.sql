-- Measure the payloads of the rows that were made between two moments: events, inputs and outputs of runs, outputs of
-- steps, inputs, logs and errors of attempts. What Postgres stores of them is summed; nothing is read out of line.
-- Parameters: hour timestamptz, first uuid, last uuid (the smallest ids of its beginning and of its end).
-- Returns: orgs int (how many organizations have any).
-- Index: the primary keys: ids are made in the order of time.
WITH payloads AS (
    SELECT org_id, pg_column_size(data) + pg_column_size("user") AS size
      FROM headrace_workflows_event WHERE id >= %(first)s AND id < %(last)s
    UNION ALL
    SELECT org_id, pg_column_size(input) + COALESCE(pg_column_size(output), 0) + COALESCE(pg_column_size(error), 0)
      FROM headrace_workflows_run WHERE id >= %(first)s AND id < %(last)s
    UNION ALL
    SELECT org_id, COALESCE(pg_column_size(output), 0) + COALESCE(pg_column_size(kept_logs), 0)
      FROM headrace_workflows_steprun WHERE id >= %(first)s AND id < %(last)s
    UNION ALL
    SELECT org_id, COALESCE(pg_column_size(input), 0) + COALESCE(pg_column_size(logs), 0)
                   + COALESCE(pg_column_size(error), 0)
      FROM headrace_workflows_attempt WHERE id >= %(first)s AND id < %(last)s
), sums AS (
    SELECT org_id, sum(size) AS bytes FROM payloads GROUP BY org_id
), measured AS (
    INSERT INTO headrace_workflows_storedbytes (org_id, hour, bytes, measured_at)
    SELECT org_id, %(hour)s, bytes, clock_timestamp() FROM sums
        ON CONFLICT (hour, org_id) DO UPDATE SET bytes = EXCLUDED.bytes, measured_at = EXCLUDED.measured_at
    RETURNING org_id
), gone AS (
    DELETE FROM headrace_workflows_storedbytes s
     WHERE s.hour = %(hour)s AND NOT EXISTS (SELECT FROM sums WHERE sums.org_id = s.org_id)
), noted AS (
    INSERT INTO headrace_workflows_measuredhour (hour, measured_at) VALUES (%(hour)s, clock_timestamp())
        ON CONFLICT (hour) DO UPDATE SET measured_at = EXCLUDED.measured_at
)
SELECT count(*)::int AS orgs FROM measured
