"""A step starts by a stamp that is young enough when it starts, not when its renewal was asked for."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from throttling.answers import Answer
from workflows.engine.pipeline import admit, publish
from workflows.engine.worker import permits
from workflows.engine.worker.permits import MIN_RENEWALS, Permits

SLACK_S = 0.05


class Gate:
    """Renews every stamp; its first answers come later than a step may start by them."""

    def __init__(self, late: int, refuses: bool = False) -> None:
        self.late, self.refuses, self.asked = late, refuses, 0
        self.granted: list[str] = []

    def confirm(self, lease: str, ids: list[str], *, again: bool) -> tuple[Any, list[str]]:
        assert again
        self.asked += 1
        if self.asked <= self.late:
            time.sleep(SLACK_S * 1.2)
        answer = Answer(now_us=0, revision=0, more=False, granted=self.granted)
        return answer, ids if self.refuses else []


def late_visit() -> Any:
    claim = SimpleNamespace(id=uuid.uuid4(), lease=uuid.uuid4(), version_id=uuid.uuid4(), key="a")
    return SimpleNamespace(claim=claim, start_by=float("-inf"), leave_for_s=None)


def permits_of(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> Permits:
    monkeypatch.setattr(admit, "gate", lambda: gate)
    monkeypatch.setattr(admit, "is_on", lambda: True)
    monkeypatch.setattr(admit, "slack_s", lambda *_: SLACK_S)
    monkeypatch.setattr(admit, "sync_revision", lambda _: False)
    parts: Any = (None, None, None)
    return Permits(*parts)


def may_start(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> bool:
    visit = late_visit()
    found = permits_of(monkeypatch, gate).may_start([visit])
    assert found <= {visit.claim.id}
    assert not found or time.monotonic() < visit.start_by + SLACK_S
    assert (visit.leave_for_s is None) == (bool(found) or gate.refuses), "it rests only where the gate is too slow"
    return bool(found)


def test_a_renewal_whose_answer_comes_too_late_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(late=2)
    assert may_start(monkeypatch, gate)
    assert gate.asked == 3


def test_a_step_whose_renewals_all_come_too_late_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "RENEW_FOR_S", 0.0)
    gate = Gate(late=MIN_RENEWALS)
    assert not may_start(monkeypatch, gate)
    assert gate.asked == MIN_RENEWALS


def test_stamps_are_renewed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(late=MIN_RENEWALS * 2)
    assert may_start(monkeypatch, gate)
    assert gate.asked == MIN_RENEWALS * 2 + 1


def test_threads_renew_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would see its answer late otherwise: the others of its process come between."""
    at_once, most = [0], [0]

    class OneAtATime(Gate):
        def confirm(self, lease: str, ids: list[str], *, again: bool) -> tuple[Any, list[str]]:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.005)
            at_once[0] -= 1
            return super().confirm(lease, ids, again=again)

    found = permits_of(monkeypatch, OneAtATime(late=0))
    with ThreadPoolExecutor(20) as threads:
        visits = [late_visit() for _ in range(20)]
        assert list(threads.map(lambda visit: found.may_start([visit]), visits)) == [{each.claim.id} for each in visits]
    assert most == [1]


def test_a_step_that_the_gate_refuses_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(late=0, refuses=True)
    assert not may_start(monkeypatch, gate)
    assert gate.asked == 1


def test_a_step_does_not_wait_until_what_its_renewal_grants_to_others_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, published, may_publish = Gate(late=0), list[str](), threading.Event()
    gate.granted = ["another"]

    def publish_granted(answer: Answer) -> None:
        assert may_publish.wait(10)
        published.extend(answer.granted)

    monkeypatch.setattr(publish, "publish_granted", publish_granted)
    found = permits_of(monkeypatch, gate)
    thread = threading.Thread(target=found.work)
    thread.start()
    visit = late_visit()
    assert found.may_start([visit]) == {visit.claim.id}
    assert not published
    may_publish.set()
    found.end()
    thread.join()
    assert published == ["another"]
