"""Step types that log when their handlers really run, by the store's clock. Loaded by HEADRACE_STEP_MODULES."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import redis

from workflows.errors import NonRetriable, NonRetriableError, RetriableError, RetryAfter
from workflows.simulation import forecast
from workflows.steps.context import StepContext
from workflows.steps.registry import COMPUTE_QUEUE, IO_QUEUE, Mode, StepConfig, StepType, register
from workflows.this_process.configuration import configuration

LOG = Path(os.environ["HEADRACE_VAR_DIR"]) / "probes.log"


class ProbeConfig(StepConfig):
    """Holds its permits for so long."""

    hold_ms: int = 0
    label: str = ""


@cache
def _offset_us(_pid: int) -> float:
    """The store's clock less this process's monotonic one: the best of some samples."""
    with redis.Redis.from_url(configuration().redis_url) as store:
        samples = []
        for _ in range(30):
            before = time.monotonic()
            seconds, micros = store.time()
            after = time.monotonic()
            moment = int(seconds) * 1_000_000 + int(micros)
            samples.append((after - before, moment - (before + after) / 2 * 1e6))
    return min(samples)[1]


def now_us(at: float | None = None) -> int:
    """The store's time: now, or at a moment of the monotonic clock."""
    moment = time.monotonic() if at is None else at
    return round(moment * 1e6 + _offset_us(os.getpid()))


def _log(context: StepContext, what: str, at_us: int) -> None:
    config: ProbeConfig = context.config
    line = f"{context.step_run_id} {context.run_id} {config.label or '-'} {os.getpid()} {what} {at_us}\n"
    handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def perform(context: StepContext) -> Any:
    began = time.monotonic()
    _log(context, "start", now_us(began))
    if context.config.hold_ms:
        time.sleep(context.config.hold_ms / 1000)
    _log(context, "end", now_us())
    return None


async def perform_async(context: StepContext) -> Any:
    began = time.monotonic()
    _log(context, "start", now_us(began))
    await asyncio.sleep(context.config.hold_ms / 1000)
    _log(context, "end", now_us())
    return None


for _name, _mode, _handler in (
    ("probe", Mode.INLINE, perform),
    ("probe_thread", Mode.THREAD, perform),
    ("probe_async", Mode.ASYNC, perform_async),
):
    register(
        StepType(name=_name, summary="A probe of the tests.", config_model=ProbeConfig, handler=_handler, mode=_mode)
    )


def report(context: StepContext) -> Any:
    """Reports that it is half done, and takes its time."""
    context.progress(50, "half of it")
    time.sleep(context.config.hold_ms / 1000)
    return None


register(
    StepType(name="probe_progress", summary="Reports.", config_model=ProbeConfig, handler=report, mode=Mode.THREAD)
)


class RaisesConfig(StepConfig):
    """How its handler fails."""

    how: str
    label: str = ""
    seconds: float = 0.0
    logs: int = 0
    say: str = ""


def _tries_long(context: StepContext) -> None:
    """Does not look at anything that asks it to stop."""
    deadline = time.monotonic() + context.config.seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


class Hinted(Exception):
    """An exception of somebody else's, with hints."""

    category = "rate_limited"
    retry_after = "1s"


class Answered(Exception):
    """As the exceptions of HTTP clients."""

    status_code = 403


def fail(context: StepContext) -> Any:
    how = context.config.how
    for number in range(context.config.logs):
        context.log.info("line", number=number, said=context.config.say)
    _log(context, "start", now_us())
    if context.attempt > 1 and how.startswith("once:"):
        return "recovered"
    now = dt.datetime.now(dt.UTC)
    errors = {
        "final": NonRetriable("no use"),
        "seed-final": NonRetriableError("no use", ValueError("cause")),
        "later": RetryAfter(now + dt.timedelta(seconds=context.config.seconds), "later"),
        "seed-later": RetriableError("later", retryAfter=f"{round(context.config.seconds * 1000)}ms"),
        "hinted": Hinted("slow down"),
        "answered": Answered("no entry"),
        "unknown": RuntimeError(context.config.say or "what"),
        "memory": MemoryError("full"),
    }
    if how == "fine":
        return context.key
    if how == "ignores":
        _tries_long(context)
        return "late"
    if how == "cooperates":
        while context.remaining_s and not context.cancelled.is_set():
            time.sleep(0.01)
        context.check_cancelled()
    raise errors[how.removeprefix("once:")]


for _name, _queue in (("raises", IO_QUEUE), ("raises_compute", COMPUTE_QUEUE)):
    register(
        StepType(
            name=_name, summary="Fails.", config_model=RaisesConfig, handler=fail, mode=Mode.THREAD, queue=_queue,
            max_batch=1 if _queue == COMPUTE_QUEUE else 50,
        )
    )  # fmt: skip


class KillsConfig(StepConfig):
    """How its handler ends the process that it runs in: the number of a signal, or 0 to exit."""

    signal: int = 9
    after_ms: int = 0


def kill(context: StepContext) -> Any:
    time.sleep(context.config.after_ms / 1000)
    if context.config.signal:
        os.kill(os.getpid(), context.config.signal)
        time.sleep(60)
    os._exit(7)


for _name, _queue in (("kills", IO_QUEUE), ("kills_compute", COMPUTE_QUEUE)):
    register(
        StepType(
            name=_name, summary="Ends its process.", config_model=KillsConfig, handler=kill, mode=Mode.THREAD,
            queue=_queue, max_batch=1 if _queue == COMPUTE_QUEUE else 50,
        )
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Span:
    """One execution of a handler; `end_us` is None where its process was killed."""

    step: str
    run: str
    label: str
    pid: int
    start_us: int
    end_us: int | None


def spans(runs: set[str]) -> list[Span]:
    """The executions of these runs, in the order of their starts."""
    open_: dict[tuple[str, int], tuple[str, str, int]] = {}
    found: list[Span] = []
    for line in LOG.read_text().splitlines() if LOG.exists() else ():  # made by the first probe that executes
        step, run, label, pid, what, at = line.split()
        if run not in runs:
            continue
        if what == "start":
            open_[step, int(pid)] = (run, label, int(at))
        else:
            run, label, start = open_.pop((step, int(pid)))
            found.append(Span(step=step, run=run, label=label, pid=int(pid), start_us=start, end_us=int(at)))
    found += [
        Span(step=step, run=run, label=label, pid=pid, start_us=start, end_us=None)
        for (step, pid), (run, label, start) in open_.items()
    ]
    return sorted(found, key=lambda span: span.start_us)


def most_at_once(found: list[Span], killed_us: dict[int, int]) -> int:
    """The most executions at any instant; those of a killed process end when it was killed."""
    return forecast.most_at_once(
        (span.start_us, span.end_us if span.end_us is not None else killed_us[span.pid]) for span in found
    )


# --- what a worker should survive, and what it should not ----------------------------------------------------------


class Panic(BaseException):
    """What `except Exception` does not catch, as the panics of extension modules."""


class Unspeakable(Exception):
    """An exception that can't even be described."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


_DEADLY: dict[str, type[BaseException]] = {
    error.__name__: error for error in (Panic, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, Unspeakable)
}


class DiesConfig(StepConfig):
    """What its handler raises."""

    error: str = "SystemExit"


def die(context: StepContext) -> Any:
    raise _DEADLY[context.config.error]("on purpose")


async def die_async(context: StepContext) -> Any:
    await asyncio.sleep(0)
    raise _DEADLY[context.config.error]("on purpose")


async def die_in_a_task(context: StepContext) -> Any:
    """A task of its own raises what asyncio lets through to the loop itself."""

    async def inner() -> None:
        raise SystemExit("on purpose")

    await asyncio.create_task(inner())


for _name, _mode, _handler, _queue in (
    ("dies", Mode.INLINE, die, IO_QUEUE),
    ("dies_thread", Mode.THREAD, die, IO_QUEUE),
    ("dies_async", Mode.ASYNC, die_async, IO_QUEUE),
    ("dies_in_a_task", Mode.ASYNC, die_in_a_task, IO_QUEUE),
    ("dies_compute", Mode.THREAD, die, COMPUTE_QUEUE),
):
    register(
        StepType(
            name=_name, summary="Raises.", config_model=DiesConfig, handler=_handler, mode=_mode, queue=_queue,
            max_batch=1 if _queue == COMPUTE_QUEUE else 50,
        )
    )  # fmt: skip


def _let_a_thread_die(name: str, mark: str) -> None:
    """The engine thread of this name panics instead of doing its work: `once` where a mark is given."""
    real = vital.start

    def start(thread: str, work: Any) -> Any:
        def panic() -> None:
            if thread == name and not (mark and Path(mark).exists()):
                if mark:
                    Path(mark).touch()
                raise Panic("on purpose")
            work()

        return real(thread, panic)

    vital.start = start


if os.environ.get("HEADRACE_TEST_DIES"):
    from workflows.engine.worker import vital

    _let_a_thread_die(os.environ["HEADRACE_TEST_DIES"], os.environ.get("HEADRACE_TEST_DIES_ONCE", ""))


ENDED = Path(os.environ["HEADRACE_VAR_DIR"]) / "ended.log"
"""Where a process that ends itself notes its id and the moment."""


_around_commits = itertools.count(1)


def _end_process_sometimes() -> None:
    if next(_around_commits) % 7 == 0:
        with ENDED.open("a") as file:
            file.write(f"{os.getpid()} {now_us()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def ended_us() -> dict[int, int]:
    """When processes have ended themselves, by the store's clock."""
    lines = ENDED.read_text().splitlines() if ENDED.exists() else ()
    return {int(pid): int(moment) for pid, moment in (line.split() for line in lines)}


def _end_around_commits(when: str) -> None:
    """Now and then this process ends: after a permit was taken ahead and before the `commit` that it is for, or after
    that and before the `start`."""
    from workflows.engine.pipeline import ahead

    ask, answer = ahead.Ahead.__init__, ahead.Ahead.answer

    def asked(self: Any, *given: Any) -> None:
        ask(self, *given)
        if when == "commit":
            _end_process_sometimes()

    def answered(self: Any) -> Any:
        found = answer(self)
        if found.taken and when == "start":
            _end_process_sometimes()
        return found

    ahead.Ahead.__init__ = asked  # type: ignore[method-assign]
    ahead.Ahead.answer = answered  # type: ignore[method-assign]


if os.environ.get("HEADRACE_TEST_ENDS_BEFORE"):
    _end_around_commits(os.environ["HEADRACE_TEST_ENDS_BEFORE"])
