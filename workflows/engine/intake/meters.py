"""This process's meter of what organizations bring in a second."""

from __future__ import annotations

from throttling.meters.meter import Meter
from workflows import this_process
from workflows.engine.pipeline import admit


def meter() -> Meter:
    """The meter, in the gate's store."""
    return this_process.own(_new_meter)


def _new_meter() -> Meter:
    return Meter(admit.gate())
