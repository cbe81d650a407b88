"""The system event `headrace/dead_letter.created`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from uuid import UUID

from dlq.models import DeadLetter
from workflows.models.event import SYSTEM
from workflows.services.system_events import BY_SYSTEM, Emission, Source

NAME = f"{SYSTEM}dead_letter.created"


def _created(org_id: UUID, since: dt.datetime, heard: frozenset[str], limit: int) -> Iterable[Emission]:
    """Dead letters of runs that a system event has started emit none: no flow can start itself for ever."""
    letters = DeadLetter.objects.filter(org_id=org_id, failed_at__gte=since).exclude(BY_SYSTEM)
    for letter in letters.select_related("flow").order_by("failed_at")[:limit]:
        data = {
            "deadLetterId": str(letter.id),
            "groupId": str(letter.group_id),
            "runId": str(letter.run_id),
            "firstRunId": str(letter.first_run_id),
            "flow": letter.flow.slug,
            "workflow": letter.flow.slug,
            "step": letter.step_key,
            "stepType": letter.step_type,
            "category": letter.category,
            "error": {"name": letter.error_name, "message": letter.error_message},
            "event": letter.event_name,
            "attempts": letter.attempts,
        }
        yield Emission(at=letter.failed_at, name=NAME, identity=_identity(letter), data=data)


def _identity(letter: DeadLetter) -> str:
    """The identity of a failure: a repair that fails emits again, though its letter is the same."""
    return str(letter.id) if letter.run_id == letter.first_run_id else f"{letter.id}/{letter.run_id}"


SOURCE = Source(names=frozenset({NAME}), since=_created)
