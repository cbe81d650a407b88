-- The organizations whose payloads are stored encrypted.
-- Parameters: none.
-- Returns: id uuid.
-- Index: none, the table has a row per organization.
SELECT id FROM headrace_workflows_organization WHERE encrypts_payloads
