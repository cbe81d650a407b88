"""Every error that a person can meet: a class per cause, the docstring is the default message."""

from __future__ import annotations

import enum
from typing import ClassVar


class Category(enum.StrEnum):
    """Why a step failed; decides whether it is tried again (docs/reference/errors.md)."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    INVALID_INPUT = "invalid_input"
    BUSINESS = "business"
    AUTH = "auth"
    CONFIGURATION = "configuration"
    RESOURCE = "resource"
    INVALID_OUTPUT = "invalid_output"


class WorkflowsError(Exception):
    """Something in a flow or its execution went wrong."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "workflows_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class FlowNotFound(WorkflowsError):
    """There is no such flow in this organization; `manage.py flows list` shows what there is."""

    status, code = 404, "flow_not_found"


class RunNotFound(WorkflowsError):
    """There is no such run in this organization."""

    status, code = 404, "run_not_found"


class StepRunNotFound(WorkflowsError):
    """There is no such step run in this organization; a run's detail names the ids of its steps (`stepRunId`)."""

    status, code = 404, "step_run_not_found"


class LimitNotFound(WorkflowsError):
    """There is no override for this; `GET /api/limits` shows what there is."""

    status, code = 404, "limit_not_found"


class Forbidden(WorkflowsError):
    """The key may not do this."""

    status, code = 403, "forbidden"


class FlowNotPublished(WorkflowsError):
    """The flow has no published version yet; publish one with `manage.py flows apply`."""

    status, code = 409, "flow_not_published"


class InvalidInput(WorkflowsError):
    """The input does not fit what the flow asks for."""

    status, code = 422, "invalid_input"


class PayloadTooLarge(WorkflowsError):
    """The payload is larger than its limit allows."""

    status, code = 413, "payload_too_large"


class IdempotencyConflict(WorkflowsError):
    """Another request with this idempotency key is being stored right now; ask again in a moment."""

    status, code = 409, "idempotency_conflict"


class InvalidDefinition(WorkflowsError):
    """The flow's definition has errors."""

    status, code = 422, "invalid_definition"


class ExpressionError(WorkflowsError):
    """An expression can't be compiled or evaluated."""

    status, code = 422, "expression_error"


class MissingField(ExpressionError):
    """An expression reads a field that is not there."""


class StepFailure(WorkflowsError):
    """A step failed; the category says whether trying again can help."""

    category: Category = Category.TRANSIENT

    def __init__(self, message: str | None = None, *, category: Category | None = None) -> None:
        super().__init__(message)
        if category is not None:
            self.category = category


class NonRetriable(StepFailure):
    """Trying again can't help."""

    category = Category.BUSINESS


class RetryAfter(StepFailure):
    """Try again, but not before the given number of seconds."""

    category = Category.RATE_LIMITED

    def __init__(self, message: str | None = None, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class InvalidOutput(StepFailure):
    """The output can't be stored as JSON."""

    status, code = 422, "invalid_output"
    category = Category.INVALID_OUTPUT


class ResourceExhausted(StepFailure):
    """The step used up its time or memory."""

    category = Category.RESOURCE


class ConfigurationFailure(StepFailure):
    """The step's configuration can't be used."""

    category = Category.CONFIGURATION


class StepCancelled(BaseException):
    """The step's run was cancelled while it ran. Not an Exception, so that handlers don't swallow it."""
