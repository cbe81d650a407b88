"""What the pages of bulk operations have in common, whatever they are done to: what one would do, how it comes along,
its stop, and going on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from workflows.edge import access
from workflows.errors import EncryptionKeyMissing, InvalidInput, OperationNotFound
from workflows.models import BulkOperation, Organization
from workflows.services import bulk

SHOWN = 200
Words = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is done, as its button says it. `mode`: of a repair; `effect`: what becomes of each, in a sentence."""

    action: str
    word: str
    done: str
    mode: str = ""
    effect: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it ends things, and begins none."""
        return not self.mode


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the operations are done to, and its pages by the names of their addresses.

    `words`: filters as people read them, in one look at what they name. `right`: what it takes to stop one. `every`:
    what is said where there is no filter; `later`: of what comes after.
    """

    one: str
    many: str
    kinds: Mapping[str, Kind]
    actions: Collection[str]
    home: str
    home_label: str
    listing: str
    page: str
    turn: str
    item: str
    every: str
    later: str
    hint: str
    right: str
    words: Callable[[Organization, Sequence[Mapping[str, Any]]], list[Words]]

    def counted(self, operation: BulkOperation) -> str:
        is_one = operation.matched == 1 and not operation.matched_at_least
        return f"{operation.counted} {self.one if is_one else self.many}"

    @property
    def common(self) -> dict[str, Any]:
        return {
            "subject": self, "home": reverse(self.home), "all_url": reverse(self.listing),
            "title": f"Bulk operations on {self.many}",
        }  # fmt: skip


def pace_of(text: str) -> float | None:
    """How many a second; None where nothing is said. Raises InvalidInput for what is no number."""
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"pace {text[:50]!r} is no number; write how many a second, such as 20.") from None


def version_of(kind: Kind, text: str) -> str | None:
    """In which version runs are resumed: each in its own, or all in the current one, which may be the mended one. None:
    as the kind has it."""
    return text or None if kind.mode == "resume" else None


def before(
    organization: Organization, subject: Subject, kind: Kind, draft: BulkOperation | None, where: Mapping[str, Any]
) -> dict[str, Any]:
    """What the page shows that asks once: to how many it is done, at which pace, for how long."""
    (words,) = subject.words(organization, [where])
    lasts_ms = round(draft.matched / draft.per_second * 1_000) if draft is not None else 0
    counted = subject.counted(draft) if draft is not None else subject.many
    return {**subject.common, "kind": kind, "draft": draft, "words": words, "lasts_ms": lasts_ms, "counted": counted}


def listing(request: HttpRequest, organization: Organization, subject: Subject) -> HttpResponse:
    """The latest operations."""
    found = bulk.recent(organization, actions=subject.actions, limit=SHOWN)
    rows = _shown(organization, subject, found)
    return render(request, "headrace/bulk/operations.html", {**subject.common, "operations": rows})


def one(request: HttpRequest, organization: Organization, subject: Subject, operation_id: UUID) -> HttpResponse:
    """How an operation comes along, who asked for it, and what was refused; the part that changes alone for htmx."""
    row = _find(organization, subject, operation_id)
    (shown,) = _shown(organization, subject, [row])
    shown["problems"] = _problems(subject, row)
    name = "_operation" if request.headers.get("HX-Request") else "operation"
    may_turn = access.allows(request.user, subject.right, organization)
    return render(request, f"headrace/bulk/{name}.html", {**subject.common, **shown, "may_turn": may_turn})


def turn(
    request: HttpRequest, organization: Organization, subject: Subject, operation_id: UUID, what: str
) -> HttpResponse:
    """Stop an operation, or go on with it. Raises Http404 for anything else."""
    if what not in {"stop", "resume"}:
        raise Http404
    before_it = _find(organization, subject, operation_id).status
    act, wanted = (bulk.stop, "stopped") if what == "stop" else (bulk.resume, "running")
    now = act(organization, operation_id, by=request.user.get_username()).status
    if now == wanted != before_it:
        messages.success(request, "It is stopped." if what == "stop" else "It goes on.")
    else:
        messages.warning(request, f"It is {now}: there is nothing to {what}.")
    return redirect(subject.page, operation_id=operation_id)


def _find(organization: Organization, subject: Subject, operation_id: UUID) -> BulkOperation:
    """Raises Http404 for one that is done to something else, too: that has pages of its own."""
    try:
        found = bulk.get(organization, operation_id)
    except OperationNotFound as error:
        raise Http404(str(error)) from None
    if found.action not in subject.actions:
        raise Http404(str(OperationNotFound()))
    return found


def _shown(organization: Organization, subject: Subject, rows: Sequence[BulkOperation]) -> list[dict[str, Any]]:
    """The operations as the pages show them."""
    words = subject.words(organization, [row.filter for row in rows])
    return [_row(subject, row, of_it) for row, of_it in zip(rows, words, strict=True)]


def _problems(subject: Subject, row: BulkOperation) -> list[dict[str, Any]]:
    return [
        {
            "id": each["id"],
            "url": "" if each["id"] == str(row.id) else reverse(subject.item, args=[each["id"]]),
            "reason": each["reason"],
        }
        for each in (row.problems if isinstance(row.problems, list) else ())  # else no key opens them
    ]


def _row(subject: Subject, row: BulkOperation, words: Words) -> dict[str, Any]:
    try:
        mode = row.options.get("mode", "")
    except EncryptionKeyMissing:  # the other operations are shown all the same
        mode = ""
    kinds = [each for each in subject.kinds.values() if each.action == row.action and each.mode == mode]
    return {
        "operation": row,
        "url": reverse(subject.page, args=[row.id]),
        "stop_url": reverse(subject.turn, args=[row.id, "stop"]),
        "resume_url": reverse(subject.turn, args=[row.id, "resume"]),
        "word": kinds[0].word if kinds else row.action,
        "done_word": kinds[0].done if kinds else "done",
        "counted": subject.counted(row),
        "words": words,
        "percent": _percent(row),
        "left_ms": round(max(0, row.matched - row.looked_at) / row.per_second * 1_000),
    }


def _percent(row: BulkOperation) -> float | None:
    """How far it is; None where nobody knows how many there are."""
    if row.matched_at_least:
        return None
    return 100 if row.status == "completed" or not row.matched else min(100, 100 * row.looked_at / row.matched)
