"""Decisions of people: what waits for one, who may make it, and making it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from workflows.engine.events import receive
from workflows.engine.maintenance import sweeps
from workflows.engine.pipeline import dispatcher
from workflows.engine.waits import resolve, waits
from workflows.errors import Forbidden, InvalidInput, WorkflowsError
from workflows.models import Organization, Run, Wait
from workflows.models.event import SYSTEM
from workflows.payload import text_fault

log = structlog.get_logger(__name__)
MAX_OPEN = 200
BATCH = 100
REMINDERS = "reminders of approvals"


class ApprovalNotFound(WorkflowsError):
    """There is no such approval in this organization, or it was decided already."""

    status, code = 404, "approval_not_found"


@dataclass(frozen=True, kw_only=True)
class Decider:
    """Who decides: `name` for the record, `roles` (`user:anna`, `group:finance`, `key:deploy`) for the check.

    `unnamed`: may decide where the flow names nobody. `everything`: an operator, who may decide in the place of those
    whom it names, and has to say so.
    """

    name: str
    roles: frozenset[str]
    everything: bool = False
    unnamed: bool = True

    def may_decide(self, wait: Wait) -> bool:
        """Whether the decision is this one's to make, without being an operator."""
        approvers = _approvers(wait)
        return bool(self.roles.intersection(approvers)) if approvers else self.unnamed


def _approvers(wait: Wait) -> list[str]:
    """Whom a wait names; somebody whom nobody is, where no key opens that."""
    found = wait.options.get("approvers") or []
    return found if isinstance(found, list) else ["nobody knows who: an encryption key is missing"]


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What waits for a decision."""

    wait: Wait
    run: Run

    @property
    def id(self) -> UUID:
        return self.wait.step_run_id


def waiting(organization: Organization) -> list[Approval]:
    """What waits for a decision, newest first."""
    rows = list(
        Wait.objects.filter(org_id=organization.id, kind=Wait.Kind.APPROVAL, taken_at=None).order_by("-step_run_id")[
            :MAX_OPEN
        ]
    )
    runs = Run.objects.select_related("flow").in_bulk([row.run_id for row in rows])
    return [Approval(wait=row, run=runs[row.run_id]) for row in rows if row.run_id in runs]


def get(organization: Organization, step_run_id: UUID) -> Approval:
    """Raises ApprovalNotFound."""
    row = Wait.objects.filter(
        org_id=organization.id, step_run_id=step_run_id, kind=Wait.Kind.APPROVAL, taken_at=None
    ).first()
    if row is None:
        raise ApprovalNotFound
    return Approval(wait=row, run=Run.objects.select_related("flow").get(id=row.run_id))


def decide(
    organization: Organization,
    step_run_id: UUID,
    *,
    approve: bool,
    comment: str = "",
    by: Decider,
    as_operator: bool = False,
) -> dict[str, Any]:
    """Approve or reject; the first decision counts. Returns the step's output.

    `as_operator`: an operator who is none of the approvers decides in their place; the answer says so.

    Raises ApprovalNotFound, Forbidden (with who may) or InvalidInput.
    """
    if len(comment) > 4_000 or text_fault(comment):
        raise InvalidInput("comment: at most 4,000 characters, without NUL.")
    found = get(organization, step_run_id)
    in_their_place = not by.may_decide(found.wait)
    if in_their_place and not (by.everything and as_operator):
        raise Forbidden(_refusal(found.wait, by))
    answer = {"approved": approve, "by": by.name, "comment": comment, "at": timezone.now().isoformat()}
    if in_their_place:
        answer["asOperator"] = True
        log.warning("an operator decides in the place of approvers", step_run_id=str(step_run_id), by=by.name)
    with transaction.atomic():
        taken = waits.claim_waits({step_run_id: None}, by="answer", answer=answer, org_id=organization.id)
        if not taken:
            raise ApprovalNotFound
        dispatcher.after_commit(lambda: resolve.resolve(taken))
    return answer


def _refusal(wait: Wait, by: Decider) -> str:
    named = ", ".join(_approvers(wait) or ["those who may change runs"])
    instead = " As an operator you may decide in their place: say so (asOperator: true)." if by.everything else ""
    return f"{by.name} may not decide this: {named} may.{instead}"


def remind() -> bool:
    """Tell of new approvals, and again of those that still wait, by system events. True: there may be more."""
    due = Wait.objects.filter(kind=Wait.Kind.APPROVAL, taken_at=None, remind_at__lte=timezone.now())
    rows = sweeps.fair_page(REMINDERS, due, by="remind_at", limit=BATCH, pk="step_run_id")
    sweeps.isolated(
        sweeps.Items(
            name=REMINDERS,
            work=lambda some: _remind_one(some[0].id),
            key=sweeps.row_id,
            org=sweeps.row_org,
            give_up=lambda row, _: Wait.objects.filter(step_run_id=row.id).update(remind_at=None),
        ),
        rows,
    )
    return len(rows) == BATCH


def _remind_one(step_run_id: UUID) -> None:
    with transaction.atomic():
        due = Wait.objects.select_for_update(skip_locked=True).filter(step_run_id=step_run_id, taken_at=None)
        wait = due.filter(remind_at__lte=timezone.now()).first()
        if wait is not None:
            _remind(wait)


def _remind(wait: Wait) -> None:
    """Announce an approval, and set when it is announced again."""
    name = f"{SYSTEM}approval.reminder" if wait.reminders else f"{SYSTEM}approval.requested"
    again_ms = wait.options.get("remind_ms")
    wait.reminders += 1
    wait.remind_at = timezone.now() + dt.timedelta(milliseconds=again_ms) if again_ms else None
    wait.save(update_fields=["reminders", "remind_at"])
    try:
        with transaction.atomic():
            receive.receive(wait.org_id, [receive.NewEvent(name=name, data=facts(wait))])
    except WorkflowsError as error:
        log.warning("an approval can't be told of", step_run_id=str(wait.step_run_id), error=str(error))


def facts(wait: Wait) -> dict[str, Any]:
    """What an approval is about, for events, API and page."""
    options = wait.options
    return {
        "id": str(wait.step_run_id),
        "runId": str(wait.run_id),
        "title": options.get("title", ""),
        "message": options.get("message", ""),
        "details": options.get("details"),
        "approvers": _approvers(wait),
        "requestedAt": wait.created_at.isoformat(),
        "expiresAt": wait.expires_at.isoformat() if wait.expires_at else None,
    }
