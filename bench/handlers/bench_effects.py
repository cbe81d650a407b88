"""The step type of the bench: a Python handler with a side effect, which tells the time at which it began.

Workers import it by HEADRACE_STEP_MODULES. Its side effect is a datagram to the driver: it costs the same few µs in
every system that is measured, and the driver sleeps until it comes.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register

SOCKET = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
DRIVER = ("127.0.0.1", int(os.environ.get("BENCH_EFFECTS", "9")))


class EffectConfig(StepConfig):
    """There is nothing to set."""


def effect(context: StepContext) -> dict[str, Any]:
    SOCKET.sendto(f"{context.run_id} {context.key} {time.time()}".encode(), DRIVER)
    return {"ok": True}


register(
    StepType(
        name="bench_effect",
        summary="Tells the bench that it has been performed.",
        config_model=EffectConfig,
        handler=effect,
        mode=Mode.THREAD,
    )
)
