"""Django admin: definitions are edited as documents, executions are read-only."""

from workflows.admin import definitions, executions, limits, observed, operations, organization, retention

__all__ = ["definitions", "executions", "limits", "observed", "operations", "organization", "retention"]
