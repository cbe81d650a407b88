"""What a person can do about dead letters: replay, resume, ignore, reopen; assign, comment on and snooze a group."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from dlq import selectors
from dlq.errors import AlreadyHandled, DeadLetterNotFound, GroupNotFound
from dlq.failures.record_failures import MAX_AUTO_REPLAY_S
from dlq.models import DeadLetter, DeadLetterChange, DeadLetterComment, DeadLetterGroup
from workflows.duration import MAX_MS
from workflows.edge.unavailable import may_pass
from workflows.engine.maintenance import sweeps
from workflows.engine.repair import chain
from workflows.errors import AlreadyRepaired, InvalidInput, RunNotEnded, WorkflowsError
from workflows.models import BulkOperation, Organization, Run
from workflows.payload import Json
from workflows.services import bulk, repair
from workflows.services.access import hidden
from workflows.services.repair import KEEP, Repeat

log = structlog.get_logger(__name__)
MAX_TEXT = 10_000
MAX_SNOOZE = dt.timedelta(milliseconds=MAX_MS)
AUTO_BATCH = 50
LOOK_AGAIN_S = 60
AUTO_REPLAYS = "automatic replays"
THE_ENGINE = "automatic replay"
Status = DeadLetter.Status


def replay(
    organization: Organization,
    letter_id: UUID,
    *,
    by: str,
    mode: str = "start",
    data: Json = KEEP,
    version: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    auto: bool = False,
) -> Repeat:
    """Run the letter's run again: from its start, or (`resume`) from the failed step, with what was done before it.

    `data` replaces the payload; it is checked by the flow's `input_schema`, and the difference is kept. The new
    run's input carries `_dlqReprocessed: true` and `_dlqItemId`. It is a repair as `services.repair.replay` makes
    one: it goes on from the latest repair of the failure, and closes all open letters of it. `force`: although the
    letter was repaired already, and from the run in which it failed. `auto`: only where no failure of the run is
    for a person. A letter that the flow's code has handled is not repaired: a fork runs from its step on.

    Raises DeadLetterNotFound, AlreadyHandled, AlreadyRepaired, RunNotEnded, InvalidInput, PayloadTooLarge.
    """
    with transaction.atomic():
        letter, letters = _locked(organization, letter_id)
        if letter.status == Status.IGNORED:
            raise AlreadyHandled("The dead letter is ignored; reopen it to replay it.")
        if letter.status == Status.REPROCESSED and not force:
            raise _repaired(letter)
        if letter.status == Status.HANDLED:
            return repair.fork_run(
                organization, letter.run_id, [letter.step_key], new_input=_meant(letter, data),
                version=version or "same", dry_run=dry_run,
            )  # fmt: skip
        if auto and any(each.auto_replay_at is None for each in letters if each.status == Status.FAILED):
            raise AlreadyHandled("Another failure of the run is for a person to decide.")
        repeat = repair.replay(
            organization,
            letter.run_id if force else chain.latest(letter.first_run_id),
            by=by,
            mode=mode,
            new_input=_meant(letter, data),
            version=version,
            force=force,
            extra={"_dlqReprocessed": True, "_dlqItemId": str(letter.id)},
            dry_run=dry_run,
        )
        if auto:
            repaired = DeadLetter.objects.filter(first_run_id=letter.first_run_id, replay_run_id=repeat.run_id)
            repaired.update(auto_replays=letter.auto_replays + 1)
    return repeat


def _meant(letter: DeadLetter, data: Json) -> Json:
    """The payload as it is meant: a value that was sent back hidden is the letter's own."""
    if data is KEEP:
        return data
    return hidden.restored(letter.org_id, data, letter.event_data, name="input", ids=[letter.run_id])


def note_handled(*, step_run_ids: Sequence[UUID], **_: Any) -> None:
    """Receiver of `workflows.signals.failures_handled`: what the code of a flow has caught is for nobody to repair."""
    DeadLetter.objects.filter(step_run_id__in=step_run_ids, status=Status.FAILED).update(
        status=Status.HANDLED, auto_replay_at=None
    )


def _repaired(letter: DeadLetter) -> WorkflowsError:
    if letter.replay_run_id is None:
        return AlreadyHandled()
    status = Run.objects.filter(id=letter.replay_run_id).values_list("status", flat=True).first()
    return AlreadyRepaired(letter.run_id, letter.replay_run_id, status=status or "")


def ignore(organization: Organization, letter_id: UUID, *, by: str, reason: str) -> DeadLetter:
    """Take a letter off the list for good. Raises DeadLetterNotFound, AlreadyHandled, InvalidInput (no reason)."""
    text = _text(reason, "reason")
    return _turn(organization, letter_id, Status.FAILED, Status.IGNORED, "ignored", by, text)


def reopen(organization: Organization, letter_id: UUID, *, by: str) -> DeadLetter:
    """Put an ignored letter back on the list. Raises DeadLetterNotFound, AlreadyHandled."""
    return _turn(organization, letter_id, Status.IGNORED, Status.FAILED, "reopened", by, "")


def _turn(
    organization: Organization, letter_id: UUID, before: str, after: str, what: str, by: str, reason: str
) -> DeadLetter:
    with transaction.atomic():
        letter, _ = _locked(organization, letter_id)
        if letter.status != before:
            raise AlreadyHandled(f"The dead letter is {letter.status}, so it can't be {what}.")
        letter.status, letter.reason, letter.auto_replay_at = after, reason, None
        letter.save(update_fields=["status", "reason", "auto_replay_at"])
        DeadLetterChange.objects.create(letter=letter, what=what, by=by, reason=reason)
    return letter


def _locked(organization: Organization, letter_id: UUID) -> tuple[DeadLetter, list[DeadLetter]]:
    """The letter and all of the same failure, locked as by every repair: first the run that failed first."""
    of_org = DeadLetter.objects.filter(org_id=organization.id)
    first_run_id = of_org.filter(id=letter_id).values_list("first_run_id", flat=True).first()
    if first_run_id is None:
        raise DeadLetterNotFound
    chain.lock(first_run_id)
    letters = list(of_org.select_for_update().filter(first_run_id=first_run_id).order_by("place"))
    letter = next((each for each in letters if each.id == letter_id), None)
    if letter is None:  # it was deleted with its run meanwhile
        raise DeadLetterNotFound
    return letter, letters


def assign(organization: Organization, group: UUID | str, *, to: str, by: str) -> DeadLetterGroup:
    """Say who looks after a group; an empty name takes it back."""
    if len(to) > 200:
        raise InvalidInput("assignee: at most 200 characters.")
    return _change_group(organization, group, by, f"assigned to {to}" if to else "assigned to nobody", assigned_to=to)


def snooze(organization: Organization, group: UUID | str, *, until: dt.datetime | None, by: str) -> DeadLetterGroup:
    """Leave a group off lists and alerts until then; None wakes it. Raises InvalidInput for a time that has passed."""
    check_group(snoozed_until=until)
    note = f"snoozed until {until:%Y-%m-%d %H:%M} UTC" if until else "woken"
    return _change_group(organization, group, by, note, snoozed_until=until)


def set_auto_replay(organization: Organization, group: UUID | str, *, after_s: int | None, by: str) -> DeadLetterGroup:
    """Replay each new letter of the group after so many seconds; 0 never; None: as its category says."""
    check_group(auto_replay_s=after_s)
    note = "automatic replay as its category says" if after_s is None else f"automatic replay after {after_s} s"
    return _change_group(organization, group, by, note, auto_replay_s=after_s)


def check_group(*, snoozed_until: dt.datetime | None = None, auto_replay_s: int | None = None) -> None:
    """Raises InvalidInput for what a group can't have."""
    if snoozed_until is not None and not timezone.now() < snoozed_until <= timezone.now() + MAX_SNOOZE:
        raise InvalidInput("until: give a time that lies ahead, within a year.")
    if auto_replay_s is not None and not 0 <= auto_replay_s <= MAX_AUTO_REPLAY_S:
        raise InvalidInput("autoReplay: from 0 (never) to a week.")


def comment(organization: Organization, group: UUID | str, *, text: str, by: str) -> DeadLetterComment:
    """Add what was found out. Raises GroupNotFound, InvalidInput."""
    found = find_group(organization, group)
    return DeadLetterComment.objects.create(group=found, by=by, text=_text(text, "text"))


def _change_group(organization: Organization, group: UUID | str, by: str, note: str, **values: Any) -> DeadLetterGroup:
    with transaction.atomic():
        found = find_group(organization, group)
        for name, value in values.items():
            setattr(found, name, value)
        found.save(update_fields=list(values))
        DeadLetterComment.objects.create(group=found, by=by, text=note)
    return found


def find_group(organization: Organization, group: UUID | str) -> DeadLetterGroup:
    """By id or fingerprint. Raises GroupNotFound."""
    found = selectors.group_where(organization, str(group)).first()
    if found is None:
        raise GroupNotFound
    return found


def _text(text: str, what: str) -> str:
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_TEXT:
        raise InvalidInput(f"{what}: write something, in at most {MAX_TEXT:,} characters.")
    return stripped


def replay_due() -> bool:
    """Resume the letters whose automatic replay is due, keeping what was done. True where there is more."""
    due = DeadLetter.objects.filter(status=Status.FAILED, auto_replay_at__lte=timezone.now())
    rows = sweeps.fair_page(AUTO_REPLAYS, due, by="auto_replay_at", limit=AUTO_BATCH)
    sweeps.isolated(
        sweeps.Items(
            name=AUTO_REPLAYS,
            work=lambda some: _replay_due(some[0]),
            key=sweeps.row_id,
            org=sweeps.row_org,
            give_up=lambda row, error: _note_refusal(row.id, sweeps.reason_of(error)),
        ),
        rows,
    )
    return len(rows) == AUTO_BATCH


def _replay_due(row: sweeps.Row) -> None:
    """Resume one. What can't be stays on the list, for a person; what may pass is an error."""
    try:
        replay(Organization.objects.get(id=row.org_id), row.id, by=THE_ENGINE, mode="resume", auto=True)
    except RunNotEnded:
        later = timezone.now() + dt.timedelta(seconds=LOOK_AGAIN_S)
        DeadLetter.objects.filter(id=row.id, status=Status.FAILED).update(auto_replay_at=later)
    except BaseException as error:
        if may_pass(error):
            raise
        log.warning("a dead letter can't be replayed by itself", letter=str(row.id), reason=str(error))
        _note_refusal(row.id, str(error))


def _note_refusal(letter_id: UUID, reason: str) -> None:
    with transaction.atomic():
        if not DeadLetter.objects.filter(id=letter_id, status=Status.FAILED).update(auto_replay_at=None):
            return  # somebody has dealt with it meanwhile
        DeadLetterChange.objects.create(letter_id=letter_id, what="not replayed", by=THE_ENGINE, reason=reason)


def _replay_one(operation: BulkOperation, organization: Organization, letter_id: UUID) -> None:
    options: Mapping[str, Any] = operation.options
    by = f"{operation.created_by} (operation {operation.id})"
    replay(
        organization,
        letter_id,
        by=by,
        mode=options.get("mode", "start"),
        version=options.get("version"),
        force=options.get("force", False),
    )


def _ignore_one(operation: BulkOperation, organization: Organization, letter_id: UUID) -> None:
    by = f"{operation.created_by} (operation {operation.id})"
    ignore(organization, letter_id, by=by, reason=str(operation.options.get("reason", "")))


def _failed_of(org_id: UUID) -> QuerySet[DeadLetter]:
    return DeadLetter.objects.filter(org_id=org_id, status=Status.FAILED)


SEARCHED = frozenset({"flow", "workflow", "category", "type", "step", "search"})
BULK_ACTIONS = {
    "replay_dead_letters": bulk.Action(
        select=selectors.failed_matching, act=_replay_one, among=_failed_of, searched=SEARCHED
    ),
    "ignore_dead_letters": bulk.Action(
        select=selectors.failed_matching, act=_ignore_one, among=_failed_of, searched=SEARCHED, per_second=500
    ),
}
"""What can be done to all dead letters that a filter matches."""
