"""What changes of a run, or of an organization, as messages: read from Postgres, so that nothing is lost on the way.

Every message has an id; a reader who comes back with the last one it had gets what has changed since. A message may
come twice then, and always says the latest state.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.utils import timezone

from workflows.errors import InvalidInput, RunNotFound
from workflows.models import Attempt, FanOut, Organization, Run, StepRun
from workflows.presenters import redaction, step_metrics
from workflows.streams.rows import PAGE, OrganizationRows, RunRows, Window, read_attempts, read_organizations, read_runs

OVERLAP_S = 2.0
"""What commits late may have an earlier time than what was sent already: so far is looked back."""
IDLE_LAG = dt.timedelta(seconds=5)
"""An organization in which nothing happens is looked at from so far behind the database's clock."""
LONGEST_LOOK_BACK = dt.timedelta(hours=1)
_ID = re.compile("[0-9]{1,16}")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One server-sent event: `name` is step-status, step-progress, run-status or end."""

    name: str
    id: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """The message as it goes over the wire."""
        return f"id: {self.id}\nevent: {self.name}\ndata: {json.dumps(self.data, default=str)}\n\n".encode()


def redacted(org_id: UUID, messages: Sequence[Message]) -> list[Message]:
    """The messages without what the organization's rules hide."""
    shown = redaction.answer(org_id, [message.data for message in messages]) if messages else []
    return [replace(message, data=data) for message, data in zip(messages, shown, strict=True)]


def channel(org_id: UUID, run_id: UUID) -> str:
    """The name by which TypeScript clients know the messages of a run."""
    return f"flows.{org_id}.{run_id}"


def micros(at: dt.datetime | None) -> int:
    return round((at - EPOCH).total_seconds() * 1e6) if at else 0


def moment_of(last_id: str) -> int | None:
    """The microseconds since 1970 that a `Last-Event-ID` is, None for an empty one.

    Raises InvalidInput for what no stream ever gives as an id.
    """
    if not last_id:
        return None
    if not _ID.fullmatch(last_id):
        raise InvalidInput("Last-Event-ID: not one of this stream; connect without it.")
    return int(last_id)


@dataclass(kw_only=True)
class RunStream:
    """The changes of one run, from its rows. `is_over` once the run has ended and that was told."""

    org_id: UUID
    run_id: UUID
    since_us: int = 0
    is_over: bool = False
    _steps: dict[UUID, tuple[Any, ...]] = field(default_factory=dict)
    _run: str = ""
    _last_us: int = 0

    @classmethod
    def open(cls, organization: Organization, run_id: UUID, last_id: str = "") -> RunStream:
        """Raises RunNotFound, or InvalidInput for an id that is none of this stream."""
        moment = moment_of(last_id)
        if not Run.objects.filter(org_id=organization.id, id=run_id).exists():
            raise RunNotFound
        since_us = max(0, moment - round(OVERLAP_S * 1e6)) if moment is not None else 0
        return cls(org_id=organization.id, run_id=run_id, since_us=since_us)

    @property
    def subject(self) -> UUID:
        return self.run_id

    @property
    def is_behind(self) -> bool:
        """A run is always read as a whole."""
        return False

    def poll(self) -> list[Message]:
        """The changes since the last call, in their order."""
        rows = read_runs([self.run_id])[self.run_id]
        return self.take(rows, read_attempts([self.run_id], self.changed(rows)))

    def changed(self, rows: RunRows) -> list[UUID]:
        """The steps that have changed since the last `take`, which wants to have their tries."""
        return [row.id for row in rows.steps if self._steps.get(row.id) != _state(row, rows.fan_outs.get(row.id))]

    def take(self, rows: RunRows, attempts: Mapping[UUID, Sequence[Attempt]]) -> list[Message]:
        """The changes since the last call, in their order."""
        run = rows.run
        if run is None:
            self.is_over = True
            return []
        changes = sorted(self._changes(rows, attempts), key=lambda change: change[0])
        messages = [self._message(name, at_us, data) for at_us, name, data in changes]
        if run.status != self._run:
            self._run = run.status
            at_us = micros(run.ended_at or run.started_at or run.created_at)
            data = {**self._whose(), "status": run.status, "error": run.error, "at": _iso(at_us)}
            messages.append(self._message("run-status", at_us, data))
        if not run.is_live:
            self.is_over = True
            messages.append(self._message("end", micros(run.ended_at), self._whose()))
        return redacted(self.org_id, messages)

    def continue_from(self, other: RunStream) -> None:
        """Ids go on from the later of the two."""
        self._last_us = max(self._last_us, other._last_us)

    def _message(self, name: str, at_us: int, data: dict[str, Any]) -> Message:
        """Its id is never lower than that of the one before."""
        self._last_us = max(self._last_us, at_us)
        return Message(name=name, id=str(self._last_us), data=data)

    def _whose(self) -> dict[str, Any]:
        return {"executionId": str(self.run_id), "channel": channel(self.org_id, self.run_id)}

    def _changes(
        self, rows: RunRows, attempts: Mapping[UUID, Sequence[Attempt]]
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for row in rows.steps:
            fan_out, tries = rows.fan_outs.get(row.id), attempts.get(row.id, ())
            known, state = self._steps.get(row.id), _state(row, fan_out)
            if known == state:
                continue
            self._steps[row.id] = state
            at_us = _changed_us(row, tries)
            if known is None and row.status == "pending":
                continue
            if known is None and at_us < self.since_us:
                continue
            name = "step-progress" if known and known[:2] == state[:2] else "step-status"
            yield at_us, name, {**self._whose(), **step_data(row, tries, fan_out), "at": _iso(at_us)}


def _state(row: StepRun, fan_out: FanOut | None) -> tuple[Any, ...]:
    progress = (row.progress or {}).get("percent"), (row.progress or {}).get("message")
    return row.status, row.attempt, progress, fan_out.ended if fan_out else None


def _changed_us(row: StepRun, attempts: Sequence[Attempt]) -> int:
    last = attempts[-1].ended_at if attempts else None
    return max(micros(at) for at in (row.ended_at, row.started_at, row.ready_at, row.created_at, last))


def _iso(at_us: int) -> str:
    return (EPOCH + dt.timedelta(microseconds=at_us)).isoformat()


def step_data(row: StepRun, attempts: Sequence[Attempt], fan_out: FanOut | None = None) -> dict[str, Any]:
    """A step as `step-status` tells of it; times in milliseconds, of all tries."""
    figures, percent = step_metrics.figures(row, attempts), step_metrics.percent_of(fan_out)
    return {
        "stepId": row.key,
        "stepRunId": str(row.id),
        "status": row.status,
        "duration": figures.duration_ms,
        "throttlingOverhead": figures.overhead_ms,
        "retryCount": figures.retries,
        "progress": row.progress or ({"percent": percent, "message": ""} if percent is not None else None),
        "error": figures.error,
    }


@dataclass(kw_only=True)
class OrganizationStream:
    """The tries that end, the steps that start and the runs that end, of a whole organization."""

    org_id: UUID
    since: dt.datetime
    is_over: bool = False
    is_behind: bool = True
    """There was more than a page, or nothing was read yet: the next look goes on where this one stopped."""
    _page_full: bool = False
    _seen: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, organization: Organization, last_id: str = "") -> OrganizationStream:
        """Raises InvalidInput for an id that is none of this stream."""
        moment, now = moment_of(last_id), timezone.now()
        since = EPOCH + dt.timedelta(microseconds=moment) if moment is not None else now
        return cls(org_id=organization.id, since=min(max(since, now - LONGEST_LOOK_BACK), now))

    @property
    def subject(self) -> UUID:
        return self.org_id

    @property
    def window(self) -> Window:
        """What `take` wants to be read."""
        overlap_s = 0.0 if self._page_full else OVERLAP_S
        return Window(org_id=self.org_id, after=self.since - dt.timedelta(seconds=overlap_s))

    def poll(self) -> list[Message]:
        """What has happened since the last call, in its order; at most some hundreds at a time."""
        return self.take(read_organizations([self.window])[0])

    def take(self, rows: OrganizationRows) -> list[Message]:
        """What is new among the rows of its `window`, in its order."""
        steps = [*self._tries(rows), *self._starts(rows)]
        latest = {data["executionId"]: at for at, _, _, data in sorted(steps, key=lambda each: each[0])}
        happened = list(steps)
        for at, key, name, data in self._ends(rows):  # a run ends after its last step, whatever microseconds it says
            happened.append((max(at, latest.get(data["executionId"], at)), key, name, data))
        new = [each for each in sorted(happened, key=lambda each: each[0]) if self._first(each[1])]
        self._go_on(rows, max((each[0] for each in happened), default=None))
        return redacted(self.org_id, [Message(name=name, id=str(micros(at)), data=data) for at, _, name, data in new])

    def continue_from(self, other: OrganizationStream) -> None:
        """Each message has the time it happened as its id: nothing to carry over."""

    def _go_on(self, rows: OrganizationRows, latest: dt.datetime | None) -> None:
        """Where the next look begins. Without this an idle organization's would span ever more of the others' rows."""
        self.is_behind = self._page_full = rows.read_until is not None
        if rows.read_until is not None:
            self.since = max(rows.read_until, self.since + dt.timedelta(microseconds=1))
        else:
            self.since = max(self.since, latest or self.since, rows.now - IDLE_LAG)

    def _first(self, key: str) -> bool:
        now = time.monotonic()
        if len(self._seen) > 20 * PAGE:
            self._seen = {known: at for known, at in self._seen.items() if now - at < 10 * OVERLAP_S}
        first = key not in self._seen
        self._seen[key] = now
        return first

    def _whose(self, run_id: UUID) -> dict[str, Any]:
        return {"executionId": str(run_id), "channel": channel(self.org_id, run_id)}

    def _tries(self, rows: OrganizationRows) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        for each, row in rows.tries:
            status = {"failed": "failed" if row.status == "failed" else "waiting"}.get(each.status, each.status)
            data = {**step_data(row, [each]), "status": status, "retryCount": each.number - 1}
            yield each.ended_at, str(each.id), "step-status", {**self._whose(row.run_id), **data}

    def _starts(self, rows: OrganizationRows) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        for row in rows.starts:
            assert row.started_at is not None
            key = f"{row.id} {micros(row.started_at)}"
            yield row.started_at, key, "step-status", {**self._whose(row.run_id), **step_data(row, ())}

    def _ends(self, rows: OrganizationRows) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        for row in rows.ends:
            assert row.ended_at is not None
            at = _iso(micros(row.ended_at))
            data = {**self._whose(row.id), "status": row.status, "error": row.error, "at": at}
            yield row.ended_at, str(row.id), "run-status", data
