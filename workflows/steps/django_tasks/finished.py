"""The signal `task_finished`, sent by a thread of its own after the end of a task is recorded.

Receivers are the application's code: they may be slow, or use the database. The threads that record outcomes do not
wait for them.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from uuid import UUID

import structlog
from django.db import connections

from workflows import this_process
from workflows.models import StepRun

log = structlog.get_logger(__name__)
MAX_WAITING = 10_000
MAX_GROUPED = 200
STOP_WITHIN_S = 2.0
IDLE_S = 2.0


class FinishedTasks:
    """One per process; its thread starts with the first task that ends."""

    def __init__(self) -> None:
        self._ended: queue.Queue[UUID | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_full = False

    def add(self, step_run_id: UUID) -> None:
        """Have the end of a task told. Where receivers are so slow that 10,000 wait, it is dropped with a word."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="finished tasks", daemon=True)
                self._thread.start()
                atexit.register(self.stop)
        try:
            self._ended.put_nowait(step_run_id)
            self._is_full = False
        except queue.Full:
            if not self._is_full:
                log.warning("task_finished is not sent: its receivers are too slow", waiting=MAX_WAITING)
            self._is_full = True

    def stop(self) -> None:
        """Tell of what waits, for two seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        until = time.monotonic() + STOP_WITHIN_S
        try:
            self._ended.put(None, timeout=STOP_WITHIN_S)
        except queue.Full:
            return
        thread.join(timeout=max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        is_over = False
        while not is_over:
            group = self._next_group()
            is_over = None in group
            try:
                send([step_run_id for step_run_id in group if step_run_id is not None])
            except Exception:
                log.exception("task_finished could not be sent", tasks=len(group))
                connections.close_all()
        connections.close_all()

    def _next_group(self) -> list[UUID | None]:
        """Wait for ends. Connections stay open from one to the next, and are closed where none comes for a while."""
        try:
            group = [self._ended.get(timeout=IDLE_S)]
        except queue.Empty:
            connections.close_all()
            group = [self._ended.get()]
        while len(group) < MAX_GROUPED and not self._ended.empty():
            group.append(self._ended.get())
        return group


def add(step_run_id: UUID) -> None:
    """The end of a task was recorded by this process."""
    this_process.own(FinishedTasks).add(step_run_id)


def stop() -> None:
    """Send what waits, at the end of a worker."""
    this_process.own(FinishedTasks).stop()


def send(step_run_ids: list[UUID]) -> None:
    """Send the signal for each of these steps."""
    from workflows.steps.django_tasks import results  # noqa: PLC0415  (the package is an extra)
    from workflows.steps.django_tasks.api import task_backends, task_finished  # noqa: PLC0415

    for result in results.of_steps(StepRun.objects.filter(id__in=step_run_ids)) if step_run_ids else ():
        try:
            if result.is_finished:
                task_finished.send_robust(sender=type(task_backends[result.backend]), task_result=result)
        except Exception:
            log.exception("task_finished could not be sent", task=result.id)
