"""Untrusted Python, run by pydantic-monty: no files, no network, no environment, in processes of its own.

Time, sleep and memory are limited by the interpreter; a worker process that does not stop by itself is killed by the
pool a second later, and the kernel ends it with its worker. A crash of the interpreter costs one failed attempt and
nothing else.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from workflows import this_process
from workflows.errors import Category, InvalidOutput, NonRetriable, ResourceExhausted, StepFailure
from workflows.steps.outcome import Sleep
from workflows.steps.sandbox_functions import Functions

if TYPE_CHECKING:  # most workers run no sandbox: what it needs is loaded with the first one
    import pydantic_monty
    from pydantic_monty import Monty

    from workflows.steps.context import StepContext

log = structlog.get_logger(__name__)

MAX_CODE_CHARACTERS = 200_000
DEFAULT_TIMEOUT_MS = 30_000
MAX_TIMEOUT_MS = 3_600_000
DEFAULT_MEMORY_BYTES = 128 * 1024 * 1024
MAX_PRINT_BYTES = 64 * 1024
MAX_PROCESSES = 8
CODE_ERRORS = (NameError, TypeError, AttributeError, NotImplementedError, SyntaxError)
CODE_ERROR = "The code itself is wrong: the step is not tried again"
"""What the same code meets each time, as far as it can be told."""
LAUNCHER = Path(__file__).with_name("sandbox_launcher.py")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the code gave: the value of its `return` (or last expression) and what it printed; or the delay that it
    asked for, after which it runs again."""

    value: Any
    printed: str
    delay_ms: int | None = None

    def outcome(self, value: Any) -> Any:
        """For a handler: the value, or the delay."""
        return value if self.delay_ms is None else Sleep(seconds=self.delay_ms / 1000)


class _Pool:
    """A process's pool of interpreter processes, made at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: Monty | None = None
        self._directory: str | None = None
        self.max_processes = MAX_PROCESSES

    def get(self) -> Monty:
        with self._lock:
            if self._pool is None:
                from pydantic_monty import Monty  # noqa: PLC0415

                self._pool = Monty(
                    binary_path=self._launcher(),
                    min_processes=0,
                    max_processes=self.max_processes,
                    max_checkouts_per_worker=500,
                )
                self._pool.__enter__()
            return self._pool

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.__exit__(None, None, None)
                if self._directory is not None:
                    shutil.rmtree(self._directory, ignore_errors=True)
            self._pool = self._directory = None

    def _launcher(self) -> str | None:
        """The program that starts an interpreter (sandbox_launcher.py): a file, since the pool takes no arguments.

        None, for the interpreter itself, where there is no Linux kernel to end it with this process.
        """
        if sys.platform != "linux":
            return None
        from pydantic_monty._binary import find_monty_binary  # noqa: PLC0415

        self._directory = tempfile.mkdtemp(prefix="headrace-sandbox-")
        path = Path(self._directory) / "sandbox"
        command = shlex.join([sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), find_monty_binary()])
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o700)
        if os.access(path, os.X_OK):
            return str(path)
        log.warning("no program may be started there, sandboxes may outlive a killed worker", directory=self._directory)
        return None


def close() -> None:
    """End this process's interpreters."""
    this_process.own(_Pool).close()


def allow(processes: int) -> None:
    """Before first use: how many interpreters this process may have at once."""
    this_process.own(_Pool).max_processes = processes


def variables(scope: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """What a script may see of its scope (in a container its item too), and the number of its try, from 1. Never the
    secrets."""
    seen = {name: scope[name] for name in ("input", "event", "steps", "run", "org", "item", "index") if name in scope}
    return {**seen, "attempt": attempt}


def timeout_s(context: StepContext, own_ms: int | None = None) -> float:
    """Seconds that the code of a step may take: what its configuration says, else the step's `timeout`, else 30.

    An hour at most, and never beyond the step's deadline.
    """
    given_ms = own_ms or context.given_timeout_ms or DEFAULT_TIMEOUT_MS
    return min(given_ms, MAX_TIMEOUT_MS, context.remaining_s * 1000) / 1000


def run(
    code: str,
    inputs: Mapping[str, Any],
    *,
    timeout_s: float,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    name: str,
    context: StepContext | None = None,
) -> Result:
    """Run the code and give its value as JSON. With the `context` of its step, what it prints is kept with the attempt,
    it may call `progress` and `delay`, and a cancel kills its process.

    Raises ResourceExhausted (time, memory, recursion, a killed process), NonRetriable (a syntax error, a forbidden
    call), InvalidOutput (a value that is no JSON) or StepFailure (any other exception of the code, with its traceback).
    """
    import pydantic_monty  # noqa: PLC0415

    printed = pydantic_monty.CollectString(MAX_PRINT_BYTES)
    functions = Functions(context) if context is not None else None
    execution = _Execution(name=name, limits=_limits(timeout_s, memory_bytes), context=context, printed=printed)
    try:
        value = execution.feed(code, inputs, functions)
    except pydantic_monty.MontySyntaxError as error:
        raise NonRetriable(f"SyntaxError in {name}: {error}. {CODE_ERROR}", category=Category.CONFIGURATION) from None
    except pydantic_monty.MontyCrashedError as error:
        if error.timed_out:  # it did not come to notice that by itself, on a busy machine perhaps
            raise ResourceExhausted(f"time limit exceeded: {name} had {timeout_s:g} s, and was killed") from None
        raise ResourceExhausted(f"The sandbox process was lost while it ran {name}: {error}") from None
    except pydantic_monty.MontyRuntimeError as error:
        if functions is None or functions.delay_ms is None:
            raise _failure(error) from None
        value = None
    except (ValueError, pydantic_monty.MontyConversionError) as error:
        raise InvalidOutput(f"The result of {name} can't be taken over: {error}") from None
    if functions is not None and functions.delay_ms is not None:
        return Result(value=None, printed=printed.output, delay_ms=functions.delay_ms)
    try:
        return Result(value=_plain(value, name), printed=printed.output)
    except RecursionError:
        raise InvalidOutput(f"The result of {name} can't be taken over: it is nested too deeply") from None


def _limits(timeout_s: float, memory_bytes: int) -> pydantic_monty.ResourceLimits:
    from pydantic_monty import ResourceLimits  # noqa: PLC0415

    seconds = max(timeout_s, 0.001)
    return ResourceLimits(
        max_feed_duration_secs=seconds, max_total_sleep_secs=seconds, max_memory=memory_bytes, max_recursion_depth=500
    )


@dataclass(frozen=True, kw_only=True)
class _Execution:
    """Code in a process of the pool. What it prints is kept with the attempt, and a cancel kills the process."""

    name: str
    limits: pydantic_monty.ResourceLimits
    context: StepContext | None
    printed: pydantic_monty.CollectString

    def feed(self, code: str, inputs: Mapping[str, Any], functions: Functions | None) -> Any:
        running = threading.Event()
        running.set()
        with this_process.own(_Pool).get().checkout(script_name=self.name, limits=self.limits) as session:
            if self.context is not None:
                self.context.on_stop(functools.partial(_kill, session.worker_pid, running))
            try:
                return session.feed_run(
                    code,
                    inputs=dict(inputs),
                    external_lookup=functions.by_name if functions else {},
                    print_callback=self.printed,
                )
            finally:
                running.clear()
                if self.context is not None:
                    self.context.log.keep("print", self.printed.output)


def _kill(pid: int | None, running: threading.Event) -> None:
    if running.is_set() and pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _failure(error: pydantic_monty.MontyRuntimeError) -> StepFailure:
    cause = error.exception()
    message = error.display("type-msg")
    detail = error.display("traceback")
    if isinstance(cause, TimeoutError | MemoryError | RecursionError):
        failure: StepFailure = ResourceExhausted(message)
    elif isinstance(cause, PermissionError | ModuleNotFoundError) or "is not supported in this environment" in message:
        failure = NonRetriable(
            f"The sandbox has no files, network or environment: {message}", category=Category.CONFIGURATION
        )
    elif isinstance(cause, CODE_ERRORS):
        failure = NonRetriable(f"{message}. {CODE_ERROR}", category=Category.CONFIGURATION)
    else:
        failure = StepFailure(message)
    failure.add_note(detail)
    return failure


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    raise InvalidOutput(
        f"{name} gives a {type(value).__name__}; return JSON: text, numbers, true, false, lists, dicts."
    )
