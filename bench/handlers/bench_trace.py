"""A trace of what a process does for runs: imported beside the step type where BENCH_TRACE names a file.

Each statement, call of the gate, published message, visit and handler is a line: process, thread, begin, end, what.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from throttling.gate import Gate
from workflows.engine.pipeline import perform, publish
from workflows.engine.state import database
from workflows.engine.worker.recorder import Recorder
from workflows.engine.worker.runtime import Runtime

FILE = os.open(os.environ["BENCH_TRACE"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


def traced(owner: Any, name: str, what: Callable[..., str]) -> None:
    """Have each call of a function written down; `what` says which, from its arguments."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begin = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            line = f"{os.getpid()}\t{threading.current_thread().name}\t{begin:.6f}\t{time.time():.6f}\t{what(*args)}\n"
            os.write(FILE, line.encode())

    setattr(owner, name, wrapper)


traced(database, "_execute", lambda _, name, *more: f"Postgres: {name}")
traced(Gate, "_call", lambda _, verb, *more: f"gate: {verb}")
traced(publish, "publish", lambda *_: "broker: publish")
traced(perform, "perform", lambda *_: "handler, and its result")
traced(Runtime, "visit", lambda *_: "a message is taken")
traced(Recorder, "record", lambda *_: "record and hand over")
