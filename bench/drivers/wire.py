"""Lines of JSON between the bench and a driver, and the effects of steps that a driver waits for."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Verbs = Mapping[str, Callable[..., Any]]


def serve(verbs: Verbs) -> None:
    """Answer commands from stdin until `end`, or until the bench is gone."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed must not look like an answer
    print(json.dumps({"ready": True}), file=out)
    for line in sys.stdin:
        given = json.loads(line)
        verb = given.pop("verb")
        try:
            answer = {"value": verbs[verb](**given)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=out)
        if verb == "end":
            return
    if "end" in verbs:
        verbs["end"]()


class Effects:
    """Where the side effects of steps arrive: (run, step, time)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def clear(self) -> None:
        """Forget what has come."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(200)
        except BlockingIOError:
            pass

    def until(self, run_id: str, key: str, patience_s: float = 20.0) -> dict[str, float]:
        """The times of the run's steps, once this one has come. The thread sleeps meanwhile."""
        times: dict[str, float] = {}
        deadline = time.monotonic() + patience_s
        while key not in times:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                run, step, at = self._socket.recv(200).decode().split()
            except TimeoutError:
                raise RuntimeError(f"the step {key} was not performed within {patience_s} s") from None
            if run == run_id:
                times[step] = float(at)
        return times
