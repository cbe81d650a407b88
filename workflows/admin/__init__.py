"""Django admin: definitions are edited as documents, executions are read-only."""

from workflows.admin import definitions, executions, limits, operations, organization

__all__ = ["definitions", "executions", "limits", "operations", "organization"]
