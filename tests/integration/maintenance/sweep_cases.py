"""What the tests of sweeps share: a clean start, turns of the leader, and the form of a case."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.utils import timezone

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.maintenance import gate_sync, sweeps
from workflows.engine.maintenance import leader as maintenance
from workflows.engine.state.records import ReadyStep
from workflows.models import (
    Organization,
    SweepFailure,
)

NOOP = {"id": "a", "type": "noop"}

HOUR = {"id": "a", "type": "delay", "config": {"for": "1h"}}

TABLES = {"TIMERS": maintenance.TIMERS, "RESCUES": maintenance.RESCUES, "RARE": maintenance.RARE}


@pytest.fixture(autouse=True)
def clean(published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No notes of earlier tests, and none of this one for later ones; nothing is put off, and no grace is left."""
    SweepFailure.objects.all().delete()
    sweeps.ledger().forget_memory()
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    yield
    SweepFailure.objects.all().delete()
    sweeps.ledger().forget_memory()


def turn() -> maintenance.Turn:
    return maintenance.Turn(worker=NIL_UUID, sync=gate_sync.GateSync())


def now_again() -> None:
    """What is put off may be tried again."""
    try_again_in(-1)


def try_again_in(seconds: float) -> None:
    SweepFailure.objects.update(try_again_at=timezone.now() + dt.timedelta(seconds=seconds))
    sweeps.ledger().forget_memory()


@dataclass(kw_only=True)
class Case:
    """Two organizations, of which the first has something bad; `sweep` the name under which doctor tells of it."""

    bad: Organization
    good: Organization
    monkeypatch: pytest.MonkeyPatch


@dataclass(kw_only=True)
class Recipe:
    """`poison` is the context in which the item is bad; `work` the sweep; `went_on` whether the good one had its turn."""

    poison: Any
    work: Callable[[], object]
    went_on: Callable[[], object]
    told: str
