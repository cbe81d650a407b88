"""The runs that a large database has copies of: each was executed once, by the workers that are alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from workflows import services
from workflows.definitions.validate import parse
from workflows.models import Organization, Run, StepRun
from workflows.models.run import LIVE_RUN
from workflows.services import events

WAIT_S = 60.0
CAUSES = 10
"""So many flows fail, each for a cause of its own."""
EVENT = "seed/order.created"


class Template(NamedTuple):
    """A run to be copied, and which share of all copies are its own."""

    run_id: UUID
    share: float


class NoWorker(RuntimeError):
    """The runs to copy did not get to their ends: is a worker alive? (`make up` starts them.)"""


def execute(organization: Organization, steps: int, *, waits: bool = True) -> list[Template]:
    """Publish the flows, execute one run of each, and return them.

    90 of 100 copies completed, 7 failed with a dead letter, 2 were cancelled, 1 waits for an approval (not
    without `waits`: it completed too).
    Raises NoWorker where they do not get there within a minute.
    """
    for definition in _definitions(steps):
        services.apply_definition(organization, parse(definition))
    failing = [services.trigger(organization, f"seed-failing-{n}", {"n": n}).run_ids[0] for n in range(CAUSES)]
    waiting = services.trigger(organization, "seed-waiting", {"amount": 12}).run_ids[0]
    cancelled = services.trigger(organization, "seed-sleeping").run_ids[0]
    before = set(Run.objects.filter(org_id=organization.id, event_name=EVENT).values_list("id", flat=True))
    events.send(organization, {"name": EVENT, "data": {"orderId": "o-1", "total": 40.5, "items": ["a", "b"]}})
    _until(lambda: StepRun.objects.filter(run_id__in=[waiting, cancelled], status="waiting").count() == 2)
    ended = [cancelled] if waits else [cancelled, waiting]
    services.cancel_runs(organization, ended, reason="by the bench")
    _until(lambda: _by_event(organization, before) is not None)
    completed = _by_event(organization, before)
    assert completed is not None
    _until(lambda: not Run.objects.filter(id__in=[completed, *ended, *failing], status__in=LIVE_RUN).exists())
    return [
        Template(completed, 0.90),
        *(Template(run_id, 0.07 / CAUSES) for run_id in failing),
        Template(cancelled, 0.02),
        Template(waiting if waits else completed, 0.01),
    ]


def _definitions(steps: int) -> list[Any]:
    done = [{"id": f"s{n}", "type": "noop", "config": {"output": {"step": n, "ok": True}}} for n in range(steps)]
    missing = {"output": "${ input.nothing_of_this_name }"}
    return [
        {"flow": "seed-orders", "on": [{"event": EVENT}], "steps": done},
        *(
            {
                "flow": f"seed-failing-{n}",
                "steps": [*done[:-1], {"id": f"fails-{n}", "type": "noop", "config": missing}],
            }
            for n in range(CAUSES)
        ),
        {"flow": "seed-waiting", "steps": [*done[:-1], {"id": "decide", "type": "wait_for_approval"}]},
        {"flow": "seed-sleeping", "steps": [*done[:-1], {"id": "sleep", "type": "delay", "config": {"for": "300d"}}]},
    ]


def _by_event(organization: Organization, before: set[UUID]) -> UUID | None:
    found = Run.objects.filter(org_id=organization.id, event_name=EVENT).exclude(id__in=before)
    return found.values_list("id", flat=True).first()


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > until:
            raise NoWorker(NoWorker.__doc__)
        time.sleep(0.1)
