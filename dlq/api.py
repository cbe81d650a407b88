"""`/api/dlq` and `/api/alerts`: dead letters, their groups, and what can be done about them."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from uuid import UUID

from ninja import Router, Status
from pydantic import Field, StrictInt, StrictStr

from dlq import presenters, selectors, services
from dlq.answers import AlertOut, GroupOut, LetterDetailOut, LettersOut, LetterStatsOut
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.routes import given_input, start_bulk
from workflows.api.schemas.requests import Body, BulkIn, BulkReplayIn, RepeatIn, milliseconds
from workflows.api.schemas.runs import OperationOut, RepeatOut
from workflows.presenters.runs import repeat_out
from workflows.services import repair

router = Router(auth=ApiKeyAuth(), tags=["dead letters"], by_alias=True)
alerts_router = Router(auth=ApiKeyAuth(), tags=["alerts"], by_alias=True)


class IgnoreIn(Body):
    reason: str = Field(min_length=1, max_length=10_000)


class BulkIgnoreIn(BulkIn):
    reason: str = Field(min_length=1, max_length=10_000)


class AssignIn(Body):
    assignee: str = Field(max_length=200, description="Empty: nobody.")


class CommentIn(Body):
    text: str = Field(min_length=1, max_length=10_000)


class SnoozeIn(Body):
    """One of the two; neither wakes the group."""

    until: dt.datetime | None = None
    duration: StrictInt | StrictStr | None = Field(None, alias="for", description="Milliseconds, or text such as 8h.")


class AutoReplayIn(Body):
    after: StrictInt | StrictStr | None = Field(
        None, description="Milliseconds, or text such as 5m; 0: never; null: as the category says."
    )


@router.get("", response=LettersOut)
def list_letters(
    request: ApiRequest,
    status: Literal["", "failed", "reprocessed", "ignored", "handled"] = "",
    flow: str = "",
    category: str = "",
    type: str = "",  # noqa: A002
    step: str = "",
    event: str = "",
    run: str = "",
    group: str = "",
    search: str = "",
    since: str = "",
    until: str = "",
    limit: int = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """Dead letters, newest first, page by page. (`workflow` is read as `flow`.)"""
    given = {"status": status, "flow": flow, "category": category, "type": type, "step": step, "event": event,
             "run": run, "group": group, "search": search, "since": since, "until": until}  # fmt: skip
    page = selectors.page(request.organization, given, limit=limit, cursor=cursor)
    return {
        "deadLetters": [presenters.letter_out(each) for each in page.letters],
        "nextCursor": page.next_cursor or None,
    }


@router.get("/stats", response=LetterStatsOut)
def stats(request: ApiRequest) -> dict[str, Any]:
    """Counts by status, category and flow, and what came lately."""
    return selectors.stats(request.organization)


@router.post("/replay", response={202: OperationOut})
def replay_many(request: ApiRequest, payload: BulkReplayIn) -> Status[dict[str, Any]]:
    """Replay (or resume) every failed letter that the filter matches, at a pace; see `/api/operations`."""
    chosen = repair.options(payload.mode, payload.version, payload.force)
    return start_bulk(request, "replay_dead_letters", payload, chosen)


@router.post("/ignore", response={202: OperationOut})
def ignore_many(request: ApiRequest, payload: BulkIgnoreIn) -> Status[dict[str, Any]]:
    """Ignore every failed letter that the filter matches."""
    return start_bulk(request, "ignore_dead_letters", payload, {"reason": payload.reason})


@router.get("/groups", response=list[GroupOut])
def list_groups(
    request: ApiRequest, status: str = "failed", snoozed: bool = False, limit: int = 100
) -> list[dict[str, Any]]:
    """The groups (one per cause), the latest first, with their counts and the last 24 hours."""
    found = selectors.groups(request.organization, status=status, snoozed=snoozed, limit=limit)
    return [presenters.group_out(each) for each in found]


def _group_out(request: ApiRequest, group: str) -> dict[str, Any]:
    found = services.find_group(request.organization, group)
    return presenters.group_out(selectors.group_summary(request.organization, found))


@router.get("/groups/{group}", response=GroupOut)
def get_group(request: ApiRequest, group: str) -> dict[str, Any]:
    """A group, by its id or fingerprint, with its comments."""
    return _group_out(request, group)


@router.post("/groups/{group}/assign", response=GroupOut)
def assign(request: ApiRequest, group: str, payload: AssignIn) -> dict[str, Any]:
    """Say who looks after a group."""
    services.assign(request.organization, group, to=payload.assignee, by=who(request))
    return _group_out(request, group)


@router.post("/groups/{group}/comments", response=GroupOut)
def comment(request: ApiRequest, group: str, payload: CommentIn) -> dict[str, Any]:
    """Add what was found out."""
    services.comment(request.organization, group, text=payload.text, by=who(request))
    return _group_out(request, group)


@router.post("/groups/{group}/snooze", response=GroupOut)
def snooze(request: ApiRequest, group: str, payload: SnoozeIn) -> dict[str, Any]:
    """Leave a group off lists and alerts for a while."""
    until = payload.until
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=dt.UTC)
    if payload.duration is not None:
        until = dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=milliseconds(payload.duration, "for"))
    services.snooze(request.organization, group, until=until, by=who(request))
    return _group_out(request, group)


@router.post("/groups/{group}/auto-replay", response=GroupOut)
def auto_replay(request: ApiRequest, group: str, payload: AutoReplayIn) -> dict[str, Any]:
    """Replay each new letter of the group by itself, after a while."""
    after_s = None if payload.after is None else round(milliseconds(payload.after, "after") / 1000)
    services.set_auto_replay(request.organization, group, after_s=after_s, by=who(request))
    return _group_out(request, group)


@router.get("/{uuid:letter_id}", response=LetterDetailOut)
def get_letter(request: ApiRequest, letter_id: UUID) -> dict[str, Any]:
    """A dead letter with its stack and audit trail."""
    return presenters.detail_out(selectors.detail(request.organization, letter_id))


@router.post("/{uuid:letter_id}/replay", response={202: RepeatOut})
def replay(request: ApiRequest, letter_id: UUID, payload: RepeatIn | None = None) -> Status[dict[str, Any]]:
    """Run its run again, from the start or (`mode: resume`) from the failed step; `input` edits the payload."""
    wanted = payload or RepeatIn.model_validate({})
    repeat = services.replay(
        request.organization,
        letter_id,
        by=who(request),
        mode=wanted.mode,
        version=wanted.version,
        data=given_input(wanted),
        force=wanted.force,
        dry_run=wanted.dry_run,
    )
    return Status(202, repeat_out(repeat))


@router.post("/{uuid:letter_id}/ignore", response=LetterDetailOut)
def ignore(request: ApiRequest, letter_id: UUID, payload: IgnoreIn) -> dict[str, Any]:
    """Take it off the list for good."""
    services.ignore(request.organization, letter_id, by=who(request), reason=payload.reason)
    return presenters.detail_out(selectors.detail(request.organization, letter_id))


@router.post("/{uuid:letter_id}/reopen", response=LetterDetailOut)
def reopen(request: ApiRequest, letter_id: UUID) -> dict[str, Any]:
    """Put an ignored one back on the list."""
    services.reopen(request.organization, letter_id, by=who(request))
    return presenters.detail_out(selectors.detail(request.organization, letter_id))


@alerts_router.get("", response=list[AlertOut])
def list_alerts(request: ApiRequest, open: bool = False, limit: int = 50) -> list[dict[str, Any]]:  # noqa: A002
    """Alerts, newest first; with `open` only those that have not recovered."""
    found = selectors.alerts(request.organization, open_only=open, limit=limit)
    return [presenters.alert_out(alert) for alert in found]
