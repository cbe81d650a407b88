-- So many observations were dropped.
-- Parameters: dropped bigint.
-- Returns: nothing.
-- Index: primary key.
INSERT INTO headrace_workflows_observationloss AS l (day, dropped)
VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, %(dropped)s)
    ON CONFLICT (day) DO UPDATE SET dropped = l.dropped + EXCLUDED.dropped
