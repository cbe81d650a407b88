"""A step that a visit has begun itself, and that may not start after all, goes back and is performed later."""

from __future__ import annotations

import queue
import time
from uuid import UUID

import pytest

from tests.support.by_hand import claim, runtime, start
from workflows.engine.pipeline.perform import Visit, open_visits
from workflows.models import Organization
from workflows.steps.outcome import HandBack


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("how", ["raises", "is refused", "is closed meanwhile"])
def test_a_step_that_may_not_start_is_not_performed(
    how: str, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = runtime()
    (visit,) = open_visits([claim(start(org, [{"id": "a", "type": "noop"}]), "a")])
    worker.in_flight.add([visit])

    def may_start(visits: list[Visit]) -> set[UUID]:
        assert [each.performed_since for each in visits] == [None], "its time begins when it does"
        if how == "raises":
            raise RuntimeError("the gate's answer can't be read")
        if how == "is closed meanwhile":
            visit.close()
            return {visit.claim.id}
        return set()

    monkeypatch.setattr(worker._permits, "may_start", may_start)
    assert not worker.inline._may_start(visit, time.monotonic())
    assert visit.is_closed, "it would be renewed for ever"
    if how == "is closed meanwhile":
        with pytest.raises(queue.Empty):
            worker.results.get_nowait()
    else:
        result = worker.results.get_nowait()
        assert result is not None
        assert isinstance(result.outcome, HandBack)
