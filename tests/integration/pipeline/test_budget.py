"""What a lone run of five steps may cost: statements, and calls of the gate. They come one after the other, so each is a
round trip that somebody waits for. The goal is 7 and 3; what is beyond it has its reason beside it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.by_hand import runtime
from tests.support.workers import await_end
from throttling.gate import Gate
from workflows import services
from workflows.definitions.validate import parse
from workflows.engine.pipeline import publish
from workflows.engine.state import database
from workflows.engine.state.records import ReadyStep
from workflows.models import Organization
from workflows.steps.registry import REGISTRY, Mode, StepConfig, StepType

OF_HEARTBEAT = {"renew_leases", "report_worker", "report_progress", "cancelled_among", "forget_workers", "renew"}
AT_MOST = {Mode.INLINE: (8, 7), Mode.THREAD: (8, 7)}
"""By mode: statements, calls of the gate."""


class Nothing(StepConfig):
    """There is nothing to set."""


@pytest.mark.parametrize("mode", AT_MOST, ids=lambda mode: mode.value)
def test_a_lone_run_stays_within_its_budget(
    org: Organization, published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    type_ = StepType(name="budget", summary="Does nothing.", config_model=Nothing, handler=lambda _: {}, mode=mode)
    monkeypatch.setitem(REGISTRY, "budget", type_)
    calls: Counter[str] = Counter()
    call = Gate._call

    def counted(gate: Gate, verb: str, given: dict[str, Any]) -> Any:
        calls[verb] += not given.get("again")  # on a busy machine a start is late, and asks once more
        return call(gate, verb, given)

    monkeypatch.setattr(Gate, "_call", counted)
    services.apply_definition(
        org, parse({"flow": "lone", "steps": [{"id": f"s{number}", "type": "budget"} for number in range(5)]})
    )
    worker = runtime()
    worker.start()
    try:
        for _ in range(2):  # the first one fills caches
            before = Counter(database.counter().by_name)
            calls.clear()
            run_id = services.trigger(org, "lone").run_ids[0]
            for _, _, batch in publish.messages(published):
                worker.visit(batch)
            published.clear()
            assert await_end(org, run_id).run.status == "completed"
            after = Counter(database.counter().by_name)
    finally:
        worker.drain(1)
    statements = {name: count for name, count in (after - before).items() if name not in OF_HEARTBEAT}
    asked = {name: count for name, count in calls.items() if name not in OF_HEARTBEAT}
    assert sum(statements.values()) <= AT_MOST[mode][0], statements
    assert sum(asked.values()) <= AT_MOST[mode][1], asked
