"""Dead letters for the pages: a list that looks at a bounded number of them, and all about one."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from dlq import selectors, services
from dlq.models import DeadLetter, DeadLetterChange
from workflows.edge.values import identifier
from workflows.errors import WorkflowsError
from workflows.models import Attempt, Organization, Run
from workflows.selectors.around_run.newer import newer_version

PER_PAGE = 50
LOOKED_AT = 5_000
"""Letters that a page looks at, whatever the filter matches."""
MOST_TRIES = 100
MOST_CHANGES = 200
TRIED = 10
"""Letters on which a bulk operation is tried before."""


@dataclass(frozen=True, kw_only=True)
class LetterPage:
    """Some letters, newest first. `searched_to`: the time of the last one that was looked at, where there are more."""

    letters: list[DeadLetter]
    next_cursor: str
    searched_to: dt.datetime | None = None


def page(
    organization: Organization, given: Mapping[str, Any], *, group_id: UUID | None = None, cursor: str = ""
) -> LetterPage:
    """The letters that a filter matches, of one status (`failed`) and perhaps of one group, newest first.

    At most LOOKED_AT letters are looked at; the cursor goes on where that ended. Raises InvalidInput.
    """
    where = {**given, "status": given.get("status") or "failed"}
    base = selectors.matching(organization, {"status": where["status"]})
    found = selectors.matching(organization, where).select_related("flow", "group").defer("event_data", "error_stack")
    if group_id is not None:
        base, found = base.filter(group_id=group_id), found.filter(group_id=group_id)
    if cursor:
        before = identifier(cursor, "cursor")
        base, found = base.filter(id__lt=before), found.filter(id__lt=before)
    end = next(iter(base.order_by("-id").values_list("id", flat=True)[LOOKED_AT - 1 : LOOKED_AT]), None)
    if end is not None:
        found = found.filter(id__gte=end)
    letters = list(found.order_by("-id")[: PER_PAGE + 1])
    if len(letters) > PER_PAGE:
        return LetterPage(letters=letters[:PER_PAGE], next_cursor=str(letters[PER_PAGE - 1].id))
    if end is not None:
        at = DeadLetter.objects.filter(id=end).values_list("failed_at", flat=True).first()
        return LetterPage(letters=letters, next_cursor=str(end), searched_to=at)
    return LetterPage(letters=letters, next_cursor="")


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A letter with its history, the tries of its step, and the run that repairs it."""

    letter: DeadLetter
    changes: list[DeadLetterChange]
    tries: list[Attempt]
    repair: Run | None
    """The run that repeats its run; None where there is none, or none any more."""
    newer: int | None
    """The number of the flow's current version, where that is later than the one in which an open letter failed."""


def one(organization: Organization, letter_id: UUID) -> Letter:
    """Raises DeadLetterNotFound."""
    letter = selectors.detail(organization, letter_id).letter
    changes = list(letter.changes.order_by("-id")[:MOST_CHANGES])
    tries: list[Attempt] = []
    if letter.step_run_id is not None:
        of_step = Attempt.objects.filter(run_id=letter.run_id, step_run_id=letter.step_run_id)
        tries = list(of_step.defer("input", "logs").order_by("-number", "-id")[:MOST_TRIES])
    return Letter(
        letter=letter, changes=changes, tries=tries, repair=_repair(organization, letter),
        newer=_newer(organization, letter),
    )  # fmt: skip


def _newer(organization: Organization, letter: DeadLetter) -> int | None:
    if letter.status != DeadLetter.Status.FAILED:
        return None
    run = Run.objects.select_related("flow", "version").filter(org_id=organization.id, id=letter.run_id).first()
    return newer_version(run) if run is not None else None


def _repair(organization: Organization, letter: DeadLetter) -> Run | None:
    if letter.replay_run_id is None:
        return None
    return Run.objects.filter(org_id=organization.id, id=letter.replay_run_id).only("id", "status").first()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a repair of some letters would do: how many were tried, kept and repeated steps, and refusals by reason."""

    tried: int
    fine: int
    kept: int
    repeated: int
    refusals: list[tuple[str, int]] = field(default_factory=list)


def trial(organization: Organization, given: Mapping[str, Any], *, options: Mapping[str, Any], by: str) -> Trial:
    """Try a bulk repair (`repair.options`) on the first letters that it would take, without doing anything. Raises
    InvalidInput."""
    first = list(selectors.failed_matching(organization, given).order_by("id").values_list("id", flat=True)[:TRIED])
    fine = kept = repeated = 0
    refusals: Counter[str] = Counter()
    for letter_id in first:
        try:
            with transaction.atomic():
                repeat = services.replay(organization, letter_id, by=by, **options, dry_run=True)
        except WorkflowsError as error:
            refusals[str(error)] += 1
            continue
        fine, kept, repeated = fine + 1, kept + len(repeat.kept), repeated + len(repeat.runs)
    return Trial(tried=len(first), fine=fine, kept=kept, repeated=repeated, refusals=refusals.most_common())
