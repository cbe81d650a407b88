"""The engine inside Celery workers: started after forks, drained before the pool stops.

Two profiles: `threads` (I/O: one process, an event loop, a pool for blocking handlers; it also leads maintenance) and
`prefork` (compute: a runtime per child, which performs in the Celery task itself).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from concurrent.futures import Executor
from typing import Any

import psycopg
import structlog
from celery import bootsteps, signals

from throttling.environment import whole_number
from workflows import this_process
from workflows.engine.maintenance.leader import Maintenance
from workflows.engine.state import database, expression_context
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.telemetry import step_events
from workflows.engine.worker.profile import MAX_CONTINUED as SHIPPED_MAX_CONTINUED
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.runtime import Runtime
from workflows.steps import sandbox
from workflows.steps.registry import (
    COMPUTE_QUEUE,
    DETACHED_LANE,
    IO_QUEUE,
    QUEUES,
    SCRIPTS_LANE,
    TASKS_LANE,
    WATCHED_LANE,
)

log = structlog.get_logger(__name__)


IO_SLOTS = whole_number(os.environ, "HEADRACE_IO_SLOTS", 200, low=1, high=10_000)
IO_THREADS = whole_number(os.environ, "HEADRACE_IO_THREADS", 16, low=1, high=10_000)
DETACHED_THREADS = whole_number(os.environ, "HEADRACE_DETACHED_THREADS", 4, low=1, high=10_000)
WATCHED_TASKS = whole_number(os.environ, "HEADRACE_WATCHED_TASKS", 2_000, low=1, high=100_000)
DRAIN_S = whole_number(os.environ, "HEADRACE_DRAIN_S", 10, low=1, high=10_000)
MAX_CONTINUED = whole_number(os.environ, "HEADRACE_MAX_CONTINUED", SHIPPED_MAX_CONTINUED, low=0, high=10_000)
LEAVE_AFTER_S = 1.0
WARM_WITHIN_S = 5.0


class NoRuntime(RuntimeError):
    """Step tasks run only in a Celery worker of this project (`celery -A config worker`)."""


class _Performing:
    """The runtime of this process, while it performs steps."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def start(self, profile: WorkerProfile) -> None:
        self.runtime = Runtime(profile)
        self.runtime.start()

    def stop(self) -> None:
        if self.runtime is not None:
            self.runtime.drain(DRAIN_S)
            self.runtime = None


def current() -> Runtime:
    """The runtime of this process."""
    runtime = this_process.own(_Performing).runtime
    if runtime is None:
        raise NoRuntime((NoRuntime.__doc__ or "").strip())
    return runtime


class EngineStep(bootsteps.StartStopStep):
    """Between the pool and the consumer: starts before messages come, drains after they stop coming."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.maintenance: Maintenance | None = None
        self.hostname = ""
        self.queues: frozenset[str] = frozenset()
        self.children = 1

    def create(self, parent: Any) -> None:
        self.hostname = parent.hostname
        self.queues = frozenset(parent.app.amqp.queues.consume_from) & frozenset(QUEUES)
        self.children = parent.concurrency or 1
        signals.worker_process_init.connect(self._start_in_child, weak=False)
        conf = parent.app.conf
        if "prefork" in parent.pool_cls.__module__ and str(conf.broker_read_url or "").startswith(
            ("redis", "sentinel")
        ):
            conf.worker_disable_prefetch = True  # a step is not taken by a machine that has no place for it
        gc.collect()
        gc.freeze()  # what is loaded by now stays shared with the children to be forked

    def include_if(self, parent: Any) -> bool:
        return True

    def start(self, parent: Any) -> None:
        if not self.queues or "prefork" in parent.pool_cls.__module__:
            return
        sys.setswitchinterval(0.0005)  # hand-overs between its threads must not wait for 5 ms slices
        step_events.start(self.hostname)
        profile = WorkerProfile(
            name=self.hostname,
            queues=self.queues,
            slots=IO_SLOTS,
            threads=IO_THREADS,
            runs_in_task_thread=False,
            max_continued=MAX_CONTINUED,
            lanes=_io_lanes(self.queues),
        )
        this_process.own(_Performing).start(profile)
        warm_up(parent.pool.executor, self.children)
        self.maintenance = Maintenance(profile.id)
        self.maintenance.start()

    def stop(self, parent: Any) -> None:
        if self.maintenance is not None:
            self.maintenance.stop()
            self.maintenance = None
        this_process.own(_Performing).stop()

    terminate = stop

    def _start_in_child(self, **_: Any) -> None:
        """A prefork child: its own runtime, connections and interpreter pool.

        Detached steps come to whichever child is free, and the gate bounds their number over all children: each child
        has threads for all of them, lest one waits behind another's in the same child.
        """
        if not self.queues:
            return
        detached = DETACHED_THREADS * self.children
        sandbox.allow(1 + detached)
        step_events.start(self.hostname)  # one worker for monitors, whatever the number of its children
        profile = WorkerProfile(
            name=self.hostname,
            queues=self.queues,
            slots=1 + detached,
            threads=detached,
            runs_in_task_thread=True,
            max_continued=MAX_CONTINUED,
            lanes=_compute_lanes(self.queues),
        )
        this_process.own(_Performing).start(profile)


def warm_up(threads: Executor, count: int) -> None:
    """Have each of the threads that take messages connect, and plan what a visit executes; they do it at the same time.

    Else it is the first fan-out that brings the second, third and fourth of them their first message, and waits.
    """
    together = threading.Barrier(count)

    def work() -> None:
        database.adopt()
        with contextlib.suppress(threading.BrokenBarrierError):  # each of them takes one, and not one of them all
            together.wait(WARM_WITHIN_S)
        try:
            step_transitions.plan_visit()
            for _ in range(2):
                expression_context.load((), ())
        except psycopg.Error as error:
            log.warning("a thread could not connect yet; it does with its first message", error=str(error))

    for _ in range(count):
        threads.submit(work)


def _io_lanes(queues: frozenset[str]) -> dict[str, int]:
    """Beside what executes as many again wait in the broker, which keeps short steps flowing. Scripts compute: they may
    hold half of the threads, and none of them waits in the broker. Blocking Django tasks wait at the gate, by their
    priority, and not for a thread; four times as many as there are threads are handed out, which keeps short ones
    flowing."""
    return {
        name: places
        for name, places in (
            (IO_QUEUE, 2 * IO_SLOTS),
            (SCRIPTS_LANE, max(1, min(IO_THREADS // 2, sandbox.MAX_PROCESSES))),
            (WATCHED_LANE, WATCHED_TASKS),
            (TASKS_LANE, 4 * IO_THREADS),
        )
        if IO_QUEUE in queues
    } | ({COMPUTE_QUEUE: max(1, IO_THREADS // 2), DETACHED_LANE: DETACHED_THREADS} if COMPUTE_QUEUE in queues else {})


def _compute_lanes(queues: frozenset[str]) -> dict[str, int]:
    """Of a prefork child: one step in its Celery task, and detached ones beside it. No more: a step in the broker waits
    behind what executes, whoever's turn it would be."""
    return ({COMPUTE_QUEUE: 1, DETACHED_LANE: DETACHED_THREADS} if COMPUTE_QUEUE in queues else {}) | (
        {IO_QUEUE: 2, SCRIPTS_LANE: 1, WATCHED_LANE: WATCHED_TASKS, TASKS_LANE: 2} if IO_QUEUE in queues else {}
    )


@signals.worker_process_shutdown.connect(weak=False)
def _stop_in_child(**_: Any) -> None:
    this_process.own(_Performing).stop()
    database.close()


@signals.worker_shutdown.connect(weak=False)
def _leave_blocking_handlers(**_: Any) -> None:
    """A blocking handler can't be stopped, and Python would wait for its thread; its step was handed back already."""
    deadline = time.monotonic() + LEAVE_AFTER_S
    while blocked := [thread.name for thread in threading.enumerate() if thread.name.startswith("step_")]:
        if time.monotonic() > deadline:
            log.warning("blocking handlers do not end, the process ends without them", handlers=len(blocked))
            logging.shutdown()
            os._exit(0)
        time.sleep(0.05)
