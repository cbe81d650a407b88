"""Every error that a person can meet: a class per cause, the docstring is the default message."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import ClassVar
from uuid import UUID


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
    facts: Mapping[str, str] = {}
    """What a program can read of it besides the message: members of the problem document."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class FlowNotFound(WorkflowsError):
    """There is no such flow in this organization; `manage.py flows list` shows what there is."""

    status, code = 404, "flow_not_found"


class FlowExists(WorkflowsError):
    """There is a flow with this slug already."""

    status, code = 409, "flow_exists"

    @classmethod
    def of(cls, slug: str, organization: str) -> FlowExists:
        """The error that names the flow."""
        return cls(
            f"There is a flow {slug!r} in {organization} already: change that one (its next version is published), "
            "or give this one another slug."
        )


class RunNotFound(WorkflowsError):
    """There is no such run in this organization."""

    status, code = 404, "run_not_found"


class RunNotLive(WorkflowsError):
    """The run has ended, or is being cancelled already: there is nothing to cancel."""

    status, code = 409, "run_not_live"


class OperationNotTurned(WorkflowsError):
    """Only a running operation can be stopped, and only a stopped one can go on."""

    status, code = 409, "operation_not_turned"


class EventNotFound(WorkflowsError):
    """There is no such event in this organization."""

    status, code = 404, "event_not_found"


class ObservedTaskNotFound(WorkflowsError):
    """No task with this id was observed for this organization, or its row was deleted with age."""

    status, code = 404, "observed_task_not_found"


class StepRunNotFound(WorkflowsError):
    """There is no such step run in this organization; a run's detail names the ids of its steps (`stepRunId`)."""

    status, code = 404, "step_run_not_found"


class LimitNotFound(WorkflowsError):
    """There is no override for this; `GET /api/limits` shows what there is."""

    status, code = 404, "limit_not_found"


class ParentCancelled(WorkflowsError):
    """The run that starts this one was cancelled."""

    status, code = 409, "parent_cancelled"


class OtherTransaction(WorkflowsError):
    """A transaction of another database is open: what is written here would not end with it."""

    status, code = 409, "other_transaction"


class FlowPaused(WorkflowsError):
    """The flow (or its organization) is paused, and skips what arrives; `resume` ends that."""

    status, code = 409, "flow_paused"


class RunRateLimited(WorkflowsError):
    """The flow's rate_limit allows for no more runs now."""

    status, code = 429, "run_rate_limited"

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyChanges(WorkflowsError):
    """The organization's limits and pauses were changed ten times within ten seconds; try again in a moment."""

    status, code = 429, "too_many_changes"


class TooManyStreams(WorkflowsError):
    """Too many live streams are open; close one, or try again in a moment."""

    status, code = 429, "too_many_streams"
    retry_after_s = 5


class RunNotEnded(WorkflowsError):
    """The run has not ended yet; cancel it, or wait for its end."""

    status, code = 409, "run_not_ended"


class AlreadyDone(WorkflowsError):
    """Somebody else has done it already."""

    status, code = 409, "already_done"


class AlreadyRepaired(AlreadyDone):
    """The run was repaired already; look at that repair, or repeat the run all the same with force."""

    status, code = 409, "already_repaired"

    def __init__(self, run_id: UUID, repair_run_id: UUID, *, status: str = "") -> None:
        which = f"the run {repair_run_id}" + (f" ({status})" if status else "")
        super().__init__(
            f"{which} has repaired {run_id} already. Look at that one, or repair it once more all the same: force."
        )
        self.repair_run_id = repair_run_id
        self.facts = {"repairRunId": str(repair_run_id)}


class OperationNotFound(WorkflowsError):
    """There is no such bulk operation in this organization."""

    status, code = 404, "operation_not_found"


class Forbidden(WorkflowsError):
    """The key may not do this."""

    status, code = 403, "forbidden"


class FlowNotPublished(WorkflowsError):
    """The flow has no published version yet; publish one with `manage.py flows apply`."""

    status, code = 409, "flow_not_published"


class FlowArchived(WorkflowsError):
    """The flow is archived and starts nothing; unarchive it, or publish it again."""

    status, code = 409, "flow_archived"


class FlowBeingDeleted(WorkflowsError):
    """The flow is being deleted with its history; its slug is free when that is done. Try again in a moment."""

    status, code = 409, "flow_being_deleted"


class InvalidInput(WorkflowsError):
    """The input does not fit what the flow asks for."""

    status, code = 422, "invalid_input"


class InvalidJson(WorkflowsError):
    """The body is no JSON."""

    status, code = 400, "invalid_json"


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
    """Try again, but not before the given time."""

    category = Category.RATE_LIMITED

    def __init__(self, when: float | str | dt.datetime, message: str | None = None) -> None:
        """`when`: seconds, a text such as "60s" or "5m", or a time with its zone. Raises ValueError for another."""
        super().__init__(message)
        self.when = _checked_time(when)

    def wait_s(self, now: dt.datetime) -> float:
        """Seconds to wait from `now`, never below zero."""
        if isinstance(self.when, dt.datetime):
            return max(0.0, (self.when - now).total_seconds())
        return self.when


def _checked_time(when: object) -> float | dt.datetime:
    if isinstance(when, str):
        from workflows.duration import parse_ms  # noqa: PLC0415  (it is above this module)

        return parse_ms(when) / 1000
    if isinstance(when, dt.datetime) and when.tzinfo is not None:
        return when
    if isinstance(when, int | float) and not isinstance(when, bool) and when >= 0:
        return when
    raise ValueError(f"RetryAfter({when!r}): give seconds, a text such as 60s, or a time with its zone")


class ScopeMissing(Forbidden):
    """The key has not the scope that this takes."""

    code = "scope_missing"

    def __init__(self, scope: str, what: str) -> None:
        super().__init__(f"This takes a key with the scope {scope or '(all)'}, to {what}: issue one, or ask for it.")
        self.facts = {"scope": scope}


class KeyNotFound(WorkflowsError):
    """There is no such key in this organization; `manage.py organization keys` lists them."""

    status, code = 404, "key_not_found"


class KeyNotInForce(WorkflowsError):
    """The key is not in force any more; issue a new one."""

    status, code = 409, "key_not_in_force"


class KeyIssuedBefore(WorkflowsError):
    """This form was sent before: its key was shown then, once. If nobody kept it, revoke it and issue another."""

    status, code = 409, "key_issued_before"


class KeyExpired(WorkflowsError):
    """The key has expired; use its successor."""

    status, code = 401, "key_expired"


class NonRetriableError(NonRetriable):
    """Trying again can't help."""

    def __init__(self, message: str | None = None, cause: BaseException | None = None) -> None:
        """`NonRetriable` by its name in TypeScript clients, with its cause."""
        super().__init__(message)
        if cause is not None:
            self.__cause__ = cause


class RetriableError(RetryAfter):
    """Try again, but not before the given time."""

    def __init__(self, message: str | None = None, *, retryAfter: float | str | dt.datetime) -> None:  # noqa: N803
        """`RetryAfter` by its name in TypeScript clients."""
        super().__init__(retryAfter, message)


class InvalidOutput(StepFailure):
    """The output can't be stored as JSON."""

    status, code = 422, "invalid_output"
    category = Category.INVALID_OUTPUT


class ResourceExhausted(StepFailure):
    """The step used up its time or memory."""

    category = Category.RESOURCE


class DeadlinePassed(NonRetriable):
    """The deadline of the step has passed, or comes before its next try."""

    category = Category.RESOURCE


class ConfigurationFailure(StepFailure):
    """The step's configuration can't be used."""

    category = Category.CONFIGURATION


class EncryptionKeyMissing(ConfigurationFailure):
    """A payload is stored encrypted under a key that is not here; add that key to HEADRACE_ENCRYPTION_KEYS_OLD."""

    status, code = 409, "encryption_key_missing"


class UnloadableVersion(ConfigurationFailure):
    """The flow version can't be loaded; correct the flow and publish it again."""

    status, code = 409, "unloadable_version"

    def __init__(
        self,
        message: str | None = None,
        *,
        path: str = "",
        reason: str = "",
        newer: bool = False,
        undoes: bool = False,
    ) -> None:
        """`path`, `reason`: what of its definition is wrong. `newer`: it has a step type or a field that this process
        does not know, or this process fails at it, so another process may load it. `undoes`: it has steps that others
        undo."""
        super().__init__(message)
        self.path, self.reason, self.newer, self.undoes = path, reason, newer, undoes


class StepCancelled(BaseException):
    """The step's run was cancelled while it ran. Not an Exception, so that handlers don't swallow it."""
