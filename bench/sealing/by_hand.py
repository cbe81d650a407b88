"""Events from their receipt to the records of their runs in one process, by turns with and without the looks whether
somebody encrypts.

The two halves of a pair are some ten milliseconds long and follow each other, the order turned around every time;
what is compared is the CPU of this process, so that what else the machine does counts little.
"""

from __future__ import annotations

import importlib
import statistics
import time
import uuid
from typing import Any

from bench.drivers.site import Site
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.pipeline import perform, record
from workflows.engine.state.records import StepResult
from workflows.engine.state.transitions import steps as transitions
from workflows.models import StepRun

TEXT = "a word of an order " * 25
"""Of a payload of half a kilobyte."""


def sealing_off(site: Site, *, pairs: int, events: int) -> dict[str, float]:
    """The CPU of a run with the looks and without them, and the median of the ratios of so many pairs of halves, each
    of so many events."""
    looks: Any = importlib.import_module("bench_no_sealing")
    _cpu_us(site, events)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number in range(pairs):
        for with_looks in (True, False) if number % 2 == 0 else (False, True):
            if with_looks:
                spent[True].append(_cpu_us(site, events))
            else:
                with looks.taken_out():
                    spent[False].append(_cpu_us(site, events))
    return {
        "cpu_us": statistics.median(spent[True]),
        "cpu_us_without_looks": statistics.median(spent[False]),
        "ratio": statistics.median(one / other for one, other in zip(spent[True], spent[False], strict=True)),
    }


def _cpu_us(site: Site, events: int) -> float:
    """Of this process for each of the events: stored, matched, their runs claimed, performed and recorded."""
    begun = time.process_time()
    sent = [NewEvent(name="bench/by-hand", data={"number": number, "text": TEXT}) for number in range(events)]
    ids = receive.receive(site.organization.id, sent)
    steps = StepRun.objects.filter(run__event_id__in=ids, status="ready").values_list("id", "attempt")
    claims = transitions.claim([(str(id_), attempt) for id_, attempt in steps], worker=uuid.uuid4()).claims
    if len(claims) != events:
        raise RuntimeError(f"{len(claims)} of {events} steps could be claimed: something else works on these runs")
    rendered = [perform.render(visit) for visit in perform.open_visits(claims)]
    record.record([each if isinstance(each, StepResult) else perform.perform(each) for each in rendered])
    return (time.process_time() - begun) * 1e6 / events
