-- The names and patterns that the `cancel_on` rules of an organization listen to.
-- Parameters: org uuid.
-- Returns: name text.
-- Index: cancel_rule_by_event.
SELECT DISTINCT event_name AS name FROM headrace_workflows_cancelrule WHERE organization_id = %(org)s
