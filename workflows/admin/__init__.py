"""Django admin: definitions are edited as documents, executions are read-only."""

from workflows.admin import definitions, executions, organization

__all__ = ["definitions", "executions", "organization"]
