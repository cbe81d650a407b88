"""A gate with clocks of its own: permits lapse and expire by them, not by the shipped ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from throttling.gate import Capacity, Gate, Request
from throttling.limits import ConcurrencyLimit, Limit, LimitSet
from throttling.names import Dimension, LimitName, Scope
from workflows.this_process.configuration import configuration

LANE = "q"
LIMIT = Limit(
    name=LimitName(scope=Scope.GLOBAL, dimension=Dimension.CONCURRENCY), bound=ConcurrencyLimit(max_running=2), base="2"
)
LIMITS = LimitSet.of([(LIMIT, None)])
BEGIN_US = 2_000_000_000_000_000


@pytest.fixture
def gate(live_db: None) -> Iterator[Gate]:
    made = Gate(configuration().redis_url, prefix=f"clocks-{uuid.uuid4().hex[:8]}", lease_s=7.0, reservation_s=3.0)
    made.open_epoch(made.begin_epoch()[0], 1)
    yield made
    made.begin_epoch(anew=True)
    made.sweep()
    made.client.delete(made.prefix + "epoch")
    made.close()


def at(gate: Gate, seconds: float) -> None:
    """The store's clock, so many seconds after the beginning."""
    gate.client.hset(gate.prefix + "epoch", "clock", BEGIN_US + round(seconds * 1e6))


def test_a_reservation_lapses_and_a_lease_expires_by_the_gates_own_clocks(gate: Gate) -> None:
    at(gate, 0)
    gate.admit([Request("reserved", LIMITS, "t", LANE)])
    gate.admit([Request("leased", LIMITS, "t", LANE)], take=Capacity(count=1, lanes=(LANE,), lease="l"))
    at(gate, 2.9)
    gate.wake()
    assert gate.permits() == {"reserved": "r", "leased": "L"}
    at(gate, 3.1)
    gate.wake()
    assert gate.permits() == {"reserved": "l", "leased": "L"}
    at(gate, 6.9)
    gate.renew({"l": ["leased"]})
    at(gate, 13.8)
    gate.wake()
    assert gate.permits() == {"reserved": "l", "leased": "L"}
    at(gate, 14.0)
    gate.wake()
    assert gate.permits() == {"reserved": "l"}
