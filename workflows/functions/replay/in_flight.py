"""Would the code of this process fit the runs in flight? A sample of each shape of journal, within a budget."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.sql import calls as sql
from workflows.engine.sql.calls import LiveJournalsRow
from workflows.engine.state import secret_sources
from workflows.functions import flows
from workflows.functions.flows import FunctionFlow
from workflows.functions.replay import network, stored
from workflows.functions.replay.check import Fit, Replayer, Verdict
from workflows.models import Flow, Organization

PAGE = 500
SAMPLE = 3
MOST_OF_ONE_S = 10.0
"""Seconds that the code may take to go through one journal."""
_FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(kw_only=True)
class Shape:
    """The runs in flight of a flow with the same steps so far. `broken`: those checked that the code does not fit."""

    flow: str
    runs: int = 0
    checked: int = 0
    broken: list[Verdict] = field(default_factory=list)


@dataclass(kw_only=True)
class Report:
    """What was found. `is_complete`: every shape has been checked; else the budget was spent."""

    shapes: list[Shape]
    seconds: float
    is_complete: bool

    @property
    def runs(self) -> int:
        return sum(shape.runs for shape in self.shapes)

    @property
    def broken(self) -> list[Shape]:
        return [shape for shape in self.shapes if shape.broken]

    @property
    def unchecked(self) -> list[Shape]:
        return [shape for shape in self.shapes if not shape.checked]


class _TooLong(BaseException):
    """The code takes too long. (No Exception: it is not for the code to catch.)"""


def check(
    organization: Organization, *, slugs: Sequence[str] = (), budget_s: float = 60.0, sample: int = SAMPLE
) -> Report:
    """Visit the code of this process with journals of runs in flight. No step is performed, what the code writes is
    rolled back, and it reaches no network.

    `slugs`: these flows only; `sample`: so many runs of each shape at most.
    """
    began = time.monotonic()
    rows = Flow.objects.filter(organization=organization, kind=Flow.Kind.CODE)
    named = {row.id: row.slug for row in (rows.filter(slug__in=slugs) if slugs else rows)}
    shapes: dict[tuple[UUID, str], Shape] = {}
    replayer = Replayer(_Secrets(organization.id))
    is_complete = True
    for row in _live(organization, list(named)):
        shape = shapes.setdefault((row.flow_id, row.shape), Shape(flow=named[row.flow_id]))
        shape.runs += 1
        left_s = began + budget_s - time.monotonic()
        if shape.checked >= sample:
            continue
        if left_s <= 0:
            is_complete = is_complete and shape.checked > 0
            continue
        verdict = _checked(organization, replayer, shape.flow, row.run_id, min(left_s, MOST_OF_ONE_S))
        if verdict is not None:
            shape.checked += 1
            shape.broken += [] if verdict.fits else [verdict]
    found = sorted(shapes.values(), key=lambda shape: (shape.flow, -shape.runs))
    return Report(shapes=found, seconds=time.monotonic() - began, is_complete=is_complete)


class _Secrets(dict[str, str]):
    """The secrets of an organization, read when the code asks for the first."""

    def __init__(self, org_id: UUID) -> None:
        super().__init__()
        self._org_id = org_id

    def __missing__(self, name: str) -> str:
        return secret_sources.secrets_of(self._org_id)[0][name]


def _live(organization: Organization, flow_ids: list[UUID]) -> Iterator[LiveJournalsRow]:
    after_at, after_id = _FIRST, NIL_UUID
    while flow_ids:
        page = sql.live_journals(
            org=organization.id, flows=flow_ids, after_at=after_at, after_id=after_id, page=PAGE
        )  # fmt: skip
        yield from (row for row in page if row.function_id is not None)
        if len(page) < PAGE:
            return
        after_at, after_id = page[-1].created_at, page[-1].run_id


def _checked(
    organization: Organization, replayer: Replayer, slug: str, run_id: UUID, within_s: float
) -> Verdict | None:
    """What the code made of a run; None where it has ended meanwhile."""
    flow = flows.find(slug)
    if flow is None:
        return Verdict(
            run_id=run_id,
            fit=Fit.OTHER_STEPS,
            sentence=f"This process has no flow {slug!r}: its runs would wait for a worker that has it.",
        )
    with _rolled_back():
        recorded = stored.load_all(organization, [run_id]).get(run_id)
        if recorded is None or recorded.status not in {"queued", "running"}:
            return None
        return _in_time(flow, run_id, within_s, lambda: replayer.check(flow, recorded))


def _in_time(flow: FunctionFlow, run_id: UUID, within_s: float, work: Callable[[], Verdict]) -> Verdict:
    try:
        with network.refused(), _alarm(within_s):
            return work()
    except _TooLong:
        return Verdict(
            run_id=run_id,
            fit=Fit.RAISES,
            sentence=f"The code of {flow.slug!r} had not gone through the journal after {within_s:.0f} s.",
        )


@contextlib.contextmanager
def _rolled_back() -> Iterator[None]:
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)


@contextlib.contextmanager
def _alarm(within_s: float) -> Iterator[None]:
    """Ends what is done in here after so long. In the main thread only: elsewhere nothing can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(within_s, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
