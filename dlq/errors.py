"""What can go wrong with dead letters."""

from __future__ import annotations

from workflows.errors import AlreadyDone, WorkflowsError


class DeadLetterError(WorkflowsError):
    """Something is wrong with a dead letter."""

    code = "dead_letter_error"


class DeadLetterNotFound(DeadLetterError):
    """There is no such dead letter in this organization; `GET /api/dlq` lists those that there are."""

    status, code = 404, "dead_letter_not_found"


class GroupNotFound(DeadLetterError):
    """There is no such group of dead letters in this organization; `GET /api/dlq/groups` lists them."""

    status, code = 404, "dead_letter_group_not_found"


class AlreadyHandled(DeadLetterError, AlreadyDone):
    """The dead letter was ignored or dealt with already; reopen an ignored one to replay it."""

    status, code = 409, "dead_letter_handled"
