"""A process that performs one step at a time, for steps whose worker was lost: it dies alone if the step kills it.

The worker keeps the claim, its lease and its permits; the process gets the claim, performs the step, and sends the
result back. Which of a lost worker's steps was the cause can't be seen from outside; here there is only one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import connections

from workflows.engine.pipeline import perform as execute
from workflows.engine.state import database
from workflows.engine.state.records import Claim, StepResult
from workflows.steps import sandbox
from workflows.steps.outcome import HandBack
from workflows.steps.registry import Mode
from workflows.steps.sandbox_launcher import FIRST_TO_GO

log = structlog.get_logger(__name__)
COMMAND = "perform_alone"
READY_WITHIN_S = 60.0
IDLE_S = 60.0
PARENT_LOOK_S = 1.0
PR_SET_PDEATHSIG = 1
START, LEAVE = "start", "leave"
"""What the worker says of a step that its process could start now."""
Report = Callable[[dict[str, Any]], None]


class ProcessLost(Exception):
    """The process that performed a step alone has ended without a result. Its text says how."""


def _django() -> dict[str, str]:
    """What lets `python -m django` find the project as this process has."""
    return {
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE") or settings.SETTINGS_MODULE,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


class SolitaryProcess:
    """The worker's side. Used by one thread; `kill` may be called by any."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "django", COMMAND, str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, **_django()},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())

    def await_ready(self) -> bool:
        """Wait until it has started. False where it has ended meanwhile, or takes too long."""
        with contextlib.suppress(EOFError, OSError):
            return self._connection.poll(READY_WITHIN_S) and self._connection.recv() == ("ready", None)
        return False

    def perform(
        self, claim: Claim, report: Report, may_start: Callable[[], bool], end_by: Callable[[float], None]
    ) -> StepResult | None:
        """The result of the step; None where the process had ended before it took the step.

        `may_start` is asked once the process has all that the step needs, so that the step starts at the moment at
        which the gate has counted it, and not after its context was loaded; else the step is handed back. `end_by` is
        called with the monotonic time by which the step has to end, where it has such a one.

        Raises ProcessLost where the process ended while it performed it, and RuntimeError where it could not be
        performed at all.
        """
        began = False
        try:
            self._connection.send(claim)
            while True:
                kind, value = self._connection.recv()
                if kind == "began":
                    began = True
                elif kind == "rendered":
                    is_allowed = may_start()
                    self._connection.send(START if is_allowed else LEAVE)
                    if not is_allowed:
                        return StepResult(claim=claim, outcome=HandBack())
                elif kind == "progress":
                    report(value)
                elif kind == "left":
                    end_by(time.monotonic() + value)
                elif kind == "result":
                    result: StepResult = value
                    return result
                else:
                    raise RuntimeError(value)
        except (EOFError, OSError):
            ended = self._ended()
            if not began:
                return None
            raise ProcessLost(ended) from None

    def _ended(self) -> str:
        self.close()
        code = self._process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def kill(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it, and wait for that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # its end of the pipe closes a moment before it ends
        self.kill()
        self._process.wait()
        self._connection.close()


def serve(handle: int, parent: int) -> None:
    """The process's side: perform what comes, one step at a time, until the worker ends or it is idle for a while."""
    end_with(parent)
    with contextlib.suppress(OSError):  # without the right to, the worker is as likely to go, and all that it performs
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    connection = Connection(handle)
    database.adopt()
    loop = asyncio.new_event_loop()
    connection.send(("ready", None))
    with contextlib.suppress(EOFError, OSError):
        while connection.poll(IDLE_S):
            claim = connection.recv()
            connection.send(("began", None))
            answer: tuple[str, Any]
            try:
                result = _perform(claim, loop, connection)
                if result is None:
                    continue
                answer = ("result", result)
            except Exception as error:
                log.exception("a step could not be performed alone", step_run_id=str(claim.id))
                answer = ("error", f"{type(error).__name__}: {error}")
            finally:
                connections.close_all()
            connection.send(answer)
    sandbox.close()


def _perform(claim: Claim, loop: asyncio.AbstractEventLoop, connection: Connection) -> StepResult | None:
    """The result of the step; None where the worker says that it may not start."""
    (visit,) = execute.open_visits([claim])
    rendered = execute.render(visit)
    if isinstance(rendered, StepResult):
        return rendered
    connection.send(("rendered", None))
    if connection.recv() != START:
        return None
    visit.performed_since = time.monotonic()
    rendered.context.deadline = visit.deadline
    rendered.context.report = lambda report: connection.send(("progress", report))
    rendered.context.end_by = functools.partial(_end_by, visit, connection)
    if visit.step.mode is Mode.ASYNC:
        return loop.run_until_complete(execute.perform_async(rendered))
    return execute.perform(rendered)


def _end_by(visit: execute.Visit, connection: Connection, due_at: float) -> None:
    """Keep a step's own deadline, and tell the worker, which ends this process where its handler does not end."""
    visit.due_at = due_at
    connection.send(("left", due_at - time.monotonic()))


def end_with(parent: int) -> None:
    """End this process with its worker: by the kernel where it can, else by looking."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_S)
        os._exit(0)

    threading.Thread(target=look, name="parent", daemon=True).start()
