"""What the reference gate costs where very many wait: what a simulation of a burst lives by."""

from __future__ import annotations

import pytest

from throttling.names import Kind
from throttling.reference.gate import ReferenceGate
from throttling.reference.state import Item, ReferenceState, Rule

LIMIT = "w:org:x"
WAITERS = 500


def test_the_next_moment_is_asked_of_each_limit_and_not_of_each_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule(kind=Kind.WINDOW, limit=1, period_us=1_000_000)
    gate = ReferenceGate(state=ReferenceState(now_us=1, rules={LIMIT: rule}))
    gate.admit([Item(id=str(number), steps=(LIMIT,)) for number in range(WAITERS)])
    assert len(gate.state.waiters) == WAITERS - 1
    asked: list[str] = []
    once = ReferenceState.next_free
    monkeypatch.setattr(ReferenceState, "next_free", lambda self, limit: (asked.append(limit), once(self, limit))[1])
    gate.next_due_us()
    assert asked == [LIMIT]
