"""What changes of a run, or of an organization, as messages: read from Postgres, so that nothing is lost on the way.

Every message has an id; a reader who comes back with the last one it had gets what has changed since. A message may
come twice then, and always says the latest state.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils import timezone

from workflows.edge import whole_number
from workflows.errors import InvalidInput, RunNotFound
from workflows.models import Attempt, FanOut, Organization, Run, StepRun
from workflows.models.run import first_id

OVERLAP_S = 2.0
"""What commits late may have an earlier time than what was sent already: so far is looked back."""
PAGE = 500
MAX_US = 253_402_214_400_000_000
"""The last day that a datetime can say, in microseconds."""
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One server-sent event: `name` is step-status, step-progress, run-status or end."""

    name: str
    id: str
    data: dict[str, Any]


def channel(org_id: UUID, run_id: UUID) -> str:
    """The name that the seeds' clients know a run's messages by."""
    return f"flows.{org_id}.{run_id}"


def micros(at: dt.datetime | None) -> int:
    return round((at - EPOCH).total_seconds() * 1e6) if at else 0


@dataclass(kw_only=True)
class RunStream:
    """The changes of one run. `poll` gives what is new; `is_over` once the run has ended and was told of."""

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
        if not Run.objects.filter(org_id=organization.id, id=run_id).exists():
            raise RunNotFound
        number = whole_number(last_id)
        if last_id and number is None:
            raise InvalidInput("Last-Event-ID: not one of this stream; connect without it.")
        since_us = max(0, min(number or 0, MAX_US) - round(OVERLAP_S * 1e6))
        return cls(org_id=organization.id, run_id=run_id, since_us=since_us)

    def poll(self) -> list[Message]:
        """The changes since the last call, in their order."""
        run = Run.objects.only("status", "error", "started_at", "ended_at", "created_at").filter(id=self.run_id).first()
        if run is None:
            self.is_over = True
            return []
        changes = sorted(self._changes(), key=lambda change: change[0])
        messages = [self._message(name, at_us, data) for at_us, name, data in changes]
        if run.status != self._run:
            self._run = run.status
            at_us = micros(run.ended_at or run.started_at or run.created_at)
            data = {**self._whose(), "status": run.status, "error": run.error, "at": _iso(at_us)}
            messages.append(self._message("run-status", at_us, data))
        if not run.is_live:
            self.is_over = True
            messages.append(self._message("end", micros(run.ended_at), self._whose()))
        return messages

    def _message(self, name: str, at_us: int, data: dict[str, Any]) -> Message:
        """Its id is never lower than that of the one before."""
        self._last_us = max(self._last_us, at_us)
        return Message(name=name, id=str(self._last_us), data=data)

    def _whose(self) -> dict[str, Any]:
        return {"executionId": str(self.run_id), "channel": channel(self.org_id, self.run_id)}

    def _changes(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        rows = list(StepRun.objects.filter(run_id=self.run_id, path="").defer("output").order_by("position"))
        fan_outs = {row.step_run_id: row for row in FanOut.objects.filter(run_id=self.run_id)} if rows else {}
        states = {row.id: _state(row, fan_outs.get(row.id)) for row in rows}
        changed = [row for row in rows if self._steps.get(row.id) != states[row.id]]
        attempts = _attempts(self.run_id, [row.id for row in changed])
        for row in changed:
            known, state, fan_out = self._steps.get(row.id), states[row.id], fan_outs.get(row.id)
            self._steps[row.id] = state
            at_us = _changed_us(row, attempts[row.id])
            if known is None and row.status == "pending":
                continue
            if known is None and at_us < self.since_us:
                continue
            name = "step-progress" if known and known[:2] == state[:2] else "step-status"
            yield at_us, name, {**self._whose(), **step_data(row, attempts[row.id], fan_out), "at": _iso(at_us)}


def _state(row: StepRun, fan_out: FanOut | None) -> tuple[Any, ...]:
    progress = (row.progress or {}).get("percent"), (row.progress or {}).get("message")
    return row.status, row.attempt, progress, fan_out.ended if fan_out else None


def _changed_us(row: StepRun, attempts: Sequence[Attempt]) -> int:
    last = attempts[-1].ended_at if attempts else None
    return max(micros(at) for at in (row.ended_at, row.started_at, row.ready_at, row.created_at, last))


def _iso(at_us: int) -> str:
    return (EPOCH + dt.timedelta(microseconds=at_us)).isoformat()


def _attempts(run_id: UUID, step_run_ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    found: dict[UUID, list[Attempt]] = defaultdict(list)
    if step_run_ids:
        rows = Attempt.objects.filter(run_id=run_id, step_run_id__in=list(step_run_ids)).defer("input", "logs")
        for attempt in rows.order_by("id"):
            found[attempt.step_run_id].append(attempt)
    return found


def step_data(row: StepRun, attempts: Sequence[Attempt], fan_out: FanOut | None = None) -> dict[str, Any]:
    """A step as the seeds' `step-status` has it; times in milliseconds, of all tries."""
    spent = [_ms(each.started_at, each.ended_at) for each in attempts]
    waited = [_ms(each.ready_at, each.started_at) for each in attempts]
    failed = sum(1 for each in attempts if each.status == "failed")
    percent = round(100 * fan_out.ended / fan_out.total, 1) if fan_out and fan_out.total else None
    return {
        "stepId": row.key,
        "stepRunId": str(row.id),
        "status": row.status,
        "duration": sum(spent) if attempts else None,
        "throttlingOverhead": sum(waited) if attempts else None,
        "retryCount": max(0, failed - (row.status == "failed")),
        "progress": row.progress or ({"percent": percent, "message": ""} if percent is not None else None),
        "error": next((each.error for each in reversed(attempts) if each.error), None)
        if row.status != "completed"
        else None,
    }


def _ms(start: dt.datetime | None, end: dt.datetime | None) -> int:
    return round((end - start).total_seconds() * 1000) if start and end else 0


@dataclass(kw_only=True)
class OrganizationStream:
    """The tries that end, the steps that start and the runs that end, of a whole organization."""

    org_id: UUID
    since: dt.datetime
    is_over: bool = False
    _seen: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, organization: Organization, last_id: str = "") -> OrganizationStream:
        """Raises InvalidInput for an id that is none of this stream."""
        number = whole_number(last_id)
        if last_id and number is None:
            raise InvalidInput("Last-Event-ID: not one of this stream; connect without it.")
        since = EPOCH + dt.timedelta(microseconds=min(number, MAX_US)) if number is not None else timezone.now()
        oldest = timezone.now() - dt.timedelta(hours=1)
        return cls(org_id=organization.id, since=max(since, oldest))

    def poll(self) -> list[Message]:
        """What has happened since the last call, in its order; at most some hundreds at a time."""
        after = self.since - dt.timedelta(seconds=OVERLAP_S)
        steps = [*self._tries(after), *self._starts(after)]
        latest = {data["executionId"]: at for at, _, _, data in sorted(steps, key=lambda each: each[0])}
        found = list(steps)
        for at, key, name, data in self._ends(after):  # a run ends after its last step, whatever microseconds it says
            found.append((max(at, latest.get(data["executionId"], at)), key, name, data))
        new = [each for each in sorted(found, key=lambda each: each[0]) if self._first(each[1])]
        if found:
            self.since = max(self.since, *(each[0] for each in found))
        return [Message(name=name, id=str(micros(at)), data=data) for at, _, name, data in new]

    def _first(self, key: str) -> bool:
        now = time.monotonic()
        if len(self._seen) > 20 * PAGE:
            self._seen = {known: at for known, at in self._seen.items() if now - at < 10 * OVERLAP_S}
        first = key not in self._seen
        self._seen[key] = now
        return first

    def _whose(self, run_id: UUID) -> dict[str, Any]:
        return {"executionId": str(run_id), "channel": channel(self.org_id, run_id)}

    def _tries(self, after: dt.datetime) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        tries = list(
            Attempt.objects.filter(id__gte=first_id(after.timestamp()), org_id=self.org_id, ended_at__gte=after)
            .defer("input", "logs").order_by("id")[:PAGE]
        )  # fmt: skip
        steps = StepRun.objects.defer("output").in_bulk([each.step_run_id for each in tries])
        for each in tries:
            row = steps.get(each.step_run_id)
            if row is not None:
                status = {"failed": "failed" if row.status == "failed" else "waiting"}.get(each.status, each.status)
                data = {**step_data(row, [each]), "status": status, "retryCount": each.number - 1}
                yield each.ended_at, str(each.id), "step-status", {**self._whose(row.run_id), **data}

    def _starts(self, after: dt.datetime) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        rows = StepRun.objects.filter(status="running", org_id=self.org_id, started_at__gte=after).defer("output")
        for row in rows.order_by("started_at")[:PAGE]:
            assert row.started_at is not None
            key = f"{row.id} {micros(row.started_at)}"
            yield row.started_at, key, "step-status", {**self._whose(row.run_id), **step_data(row, ())}

    def _ends(self, after: dt.datetime) -> Iterator[tuple[dt.datetime, str, str, dict[str, Any]]]:
        rows = Run.objects.filter(
            org_id=self.org_id, status__in=["completed", "failed", "cancelled"], ended_at__gte=after
        ).only("id", "status", "error", "ended_at")
        for row in rows.order_by("ended_at")[:PAGE]:
            assert row.ended_at is not None
            data = {**self._whose(row.id), "status": row.status, "error": row.error}
            yield row.ended_at, str(row.id), "run-status", data
