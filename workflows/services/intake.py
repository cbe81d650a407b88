"""The two ways in that take most: runs by API key and events by event key, where the request is a plain one.

Each says whether it takes the request. One that is not taken, or is left, is answered in the ordinary way (`runs`,
`events`), which also finds the words for what is wrong with it. Nothing is remembered of a key: the statement that
stores looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.engine.intake import groups, plain_events, plain_runs
from workflows.errors import WorkflowsError
from workflows.models import AccessKey
from workflows.payload import MAX_EVENT_BYTES, Json, dump
from workflows.services import events
from workflows.services.access import key_uses

Outcome = groups.Outcome
Settle = Callable[[Outcome], None]
MOST_BRACKETS = 150
"""Values with fewer are not nested too deeply, however they are wrapped."""
MARGIN_BYTES = 1_000


@dataclass(frozen=True, kw_only=True)
class PlainRun:
    """A run as a plain request asks for it."""

    input: Json
    user_id: str = ""
    tags: Sequence[str] = ()


def start_runs(token: str, slug: str, runs: Sequence[PlainRun], settle: Settle) -> bool:
    """Have runs of a flow stored with those of other requests, by an API key."""
    try:
        texts = [dump(run.input, what="The input", limit_bytes=MAX_EVENT_BYTES) for run in runs]
    except WorkflowsError:
        return False
    digest = AccessKey.digest_of(token)
    return plain_runs.writer().take(
        plain_runs.Wanted(
            digest=digest,
            slug=slug,
            inputs=[run.input for run in runs],
            texts=texts,
            user_ids=[run.user_id for run in runs],
            tags=[run.tags for run in runs],
            settle=_with_use(digest, settle),
        )
    )


def send_events(key: str, payload: Any, settle: Settle) -> bool:
    """Have one event or an array of them stored with those of other requests, by an event key."""
    listed = payload if isinstance(payload, list) else [payload]
    parsed = events.plain(listed)
    if parsed is None:
        return False
    try:
        texts = [(_text(event.data), _text(event.user)) for event in parsed]
    except WorkflowsError:
        return False
    for data, user in texts:
        if len(data) + len(user) > (MAX_EVENT_BYTES - MARGIN_BYTES) // 4:  # a character takes four bytes at most
            return False
        if data.count("[") + data.count("{") + user.count("[") + user.count("{") > MOST_BRACKETS:
            return False
    digest = AccessKey.digest_of(key)
    return plain_events.writer().take(
        plain_events.Sent(
            digest=digest,
            events=parsed,
            datas=[data for data, _ in texts],
            users=[user for _, user in texts],
            settle=_with_use(digest, settle),
        )
    )


def _with_use(digest: str, settle: Settle) -> Settle:
    """Settles, and notes the use of a key that was in force."""

    def settled(outcome: Outcome) -> None:
        if isinstance(outcome, list):
            key_uses.note_use(digest)
        settle(outcome)

    return settled


def _text(value: dict[str, Any]) -> str:
    return dump(value, what="The event") if value else "{}"
