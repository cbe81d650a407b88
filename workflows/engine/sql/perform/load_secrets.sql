-- The secrets of an organization, encrypted.
-- Parameters: org uuid.
-- Returns: name text, ciphertext bytea.
-- Index: secret_name.
SELECT name, ciphertext FROM headrace_workflows_secret WHERE organization_id = %(org)s
