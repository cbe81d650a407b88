"""`cancel_on` of runs whose input is stored encrypted, as a whole or event by event: it is compared as it was sent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.access.marked import ECHO, send
from tests.support.workers import publish
from workflows import services
from workflows.models import Organization, Run
from workflows.services.access import payloads


@pytest.fixture
def encrypting(org: Organization, published: list[Any]) -> Iterator[Organization]:
    """The worker is this process, and so the only one that has to know."""
    payloads.switch_to(org, on=True)
    yield org
    payloads.switch_to(org, on=False)


def _status(run_id: uuid.UUID) -> str:
    return str(Run.objects.get(id=run_id).status)


@pytest.mark.parametrize("hidden", ["events", "order"])
def test_an_event_cancels_the_runs_with_an_equal_value(encrypting: Organization, hidden: str) -> None:
    """An input `{events: […]}` is sealed like a batch, each of its events by itself."""
    slug = publish(encrypting, [ECHO], cancel_on={"event": "row/cancelled", "match": f"data.{hidden}"})
    mine, other = (services.trigger(encrypting, slug, {hidden: [{"id": n}]}).run_ids[0] for n in (1, 2))
    send(encrypting, "row/cancelled", **{hidden: [{"id": 1.0}]})
    assert _status(mine) == "cancelled"
    assert _status(other) == "queued"


@pytest.mark.parametrize("in_clear", [0, 1])
def test_a_batch_of_an_earlier_version_is_cancelled_by_equal_events(
    org: Organization, published: list[Any], in_clear: int
) -> None:
    """Also one of which the first event was stored in clear, before the organization was switched."""
    _publish_batched(org)
    for number in range(in_clear):
        send(org, "row/seen", n=number)
    payloads.switch_to(org, on=True)
    for number in range(in_clear, 3):
        send(org, "row/seen", n=number)
    run = Run.objects.get(org_id=org.id)
    assert len(run.input["events"]) == 3
    publish(org, [ECHO], slug="batched", cancel_on={"event": "row/cancelled", "match": "data.events"})
    send(org, "row/cancelled", events=run.input["events"][:2])
    assert _status(run.id) == "queued"
    send(org, "row/cancelled", events=run.input["events"])
    assert _status(run.id) == "cancelled"
    payloads.switch_to(org, on=False)


def test_an_expression_over_the_events_of_a_batch_reads_them(encrypting: Organization) -> None:
    _publish_batched(encrypting)
    for number in (1, 2):
        send(encrypting, "row/seen", n=number)
    run = Run.objects.get(org_id=encrypting.id)
    condition = "event.data.events.exists(e, e.data.n == async.data.n)"
    publish(encrypting, [ECHO], slug="batched", cancel_on={"event": "row/cancelled", "if": condition})
    send(encrypting, "row/cancelled", n=3)
    assert _status(run.id) == "queued"
    send(encrypting, "row/cancelled", n=2)
    assert _status(run.id) == "cancelled"


def _publish_batched(org: Organization) -> None:
    publish(org, [ECHO], slug="batched", on={"event": "row/seen"}, batch={"max_size": 5, "timeout": "60s"})
