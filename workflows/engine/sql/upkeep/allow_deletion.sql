-- Let the open transaction delete entries of the audit log, which a trigger refuses otherwise.
-- Parameters: none.
-- Returns: allowed text.
-- Index: none; it sets what the trigger reads.
SELECT set_config('headrace.retention', '1', true) AS allowed
