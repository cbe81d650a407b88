"""A worker process's heartbeat: it renews what is held, reports the worker, and stops what is cancelled or overdue."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Container, Sequence
from uuid import UUID

import psycopg
import structlog

from workflows.engine.calls.inline import Inline
from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import Visit
from workflows.engine.sql import worker as sql
from workflows.engine.state import database, sealed
from workflows.engine.state.records import StepResult
from workflows.engine.state.transitions.steps import LEASE_S
from workflows.engine.telemetry import usage
from workflows.engine.worker.claims import Claimer
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.performers import EventLoop
from workflows.engine.worker.permits import Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.progress import Progress
from workflows.steps.outcome import Cancelled, Suspended
from workflows.steps.tools import TOOLS

log = structlog.get_logger(__name__)

LONGEST_BEAT_S = 2.0
"""A long lease is for workers that are slow to come back. What is cancelled, who is there, and who encrypts is looked
at no later for it."""
HEARTBEAT_S = min(LEASE_S / 5, LONGEST_BEAT_S)
RENEW_AFTER_S = HEARTBEAT_S
PROGRESS_S = 0.5
OVERDUE_GRACE_S = 30.0
LEAVE_HANDLER_S = 1.0


class Heartbeat:
    """Looks after what a worker process executes. On a thread and a connection of its own."""

    def __init__(
        self,
        profile: WorkerProfile,
        in_flight: InFlight,
        results: ResultQueue,
        claimer: Claimer,
        permits: Permits,
        progress: Progress,
        inline: Inline,
        loop: EventLoop,
        drain: Callable[[float], None],
    ) -> None:
        """`drain` ends the work of this process within so many seconds: for a handler that keeps its only thread."""
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
        self._claimer = claimer
        self._permits = permits
        self._progress = progress
        self._inline = inline
        self._loop = loop
        self._drain = drain
        self._usage = usage.Usage()
        self._stopped = threading.Event()

    def work(self) -> None:
        """Beat until `stop`. On a thread and a connection of its own: no handler and no slow statement delays it."""
        database.adopt()
        beat_at = time.monotonic() + HEARTBEAT_S
        while not self._stopped.wait(min(PROGRESS_S, HEARTBEAT_S)):
            try:
                self._progress.store()
                self._inline.record_stale()
                if time.monotonic() < beat_at:
                    continue
                beat_at = time.monotonic() + HEARTBEAT_S
                self._cancel_some(self._beat())
                self.report()
                self._in_flight.note_beat()
                self._end_overdue()
                sealed.look_again()
            except psycopg.Error as error:
                log.warning("heartbeat failed", error=str(error))
            except Exception:
                log.exception("heartbeat failed")
        database.close()

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()

    def report(self) -> None:
        """Report the worker. A prefork child is busy while its one Celery task is, whatever runs detached beside it."""
        profile, in_flight = self._profile, self._in_flight
        slots, active = (1, in_flight.visiting) if profile.runs_in_task_thread else (profile.slots, in_flight.executing)
        sql.report_worker(
            id=profile.id,
            name=profile.full_name,
            queues=sorted(profile.queues),
            slots=slots,
            capacity=profile.slots,
            lanes=json.dumps(dict(profile.lanes)),
            active=active,
            unclaimed=in_flight.unclaimed,
            claimed_until=json.dumps(self._claimer.claimed_until),
            code=json.dumps(TOOLS.code_digests()),
            cpu_cores=self._usage.cpu_cores(),
            memory_bytes=usage.memory_bytes(),
        )

    def _beat(self) -> set[UUID]:
        """Renew what is held, and return what is cancelled of all that runs here, however young."""
        now = time.monotonic()
        visits = self._in_flight.visits()
        held = [v for v in visits if now - v.claimed_at > RENEW_AFTER_S and now < v.deadline + OVERDUE_GRACE_S]
        young = [v.claim.id for v in visits if now - v.claimed_at <= RENEW_AFTER_S]
        cancelled = self._renew(held) if held else set()
        if young:
            cancelled |= {row.id for row in sql.cancelled_among(ids=young)}
        return cancelled

    def _renew(self, held: Sequence[Visit]) -> set[UUID]:
        rows = sql.renew_leases(ids=[v.claim.id for v in held], leases=[v.claim.lease for v in held], lease_s=LEASE_S)
        self._permits.renew(held)
        return {row.id for row in rows if row.cancelled}

    def _cancel_some(self, cancelled: Container[UUID]) -> None:
        """Ask the handlers of cancelled runs to stop; one that has not done so by the next beat is not waited for."""
        now = time.monotonic()
        for visit in self._in_flight.visits():
            if visit.cancelled_at is not None and now - visit.cancelled_at > HEARTBEAT_S / 2:
                self._abandon(visit, StepResult(claim=visit.claim, outcome=Cancelled()))
            elif visit.claim.id in cancelled and visit.cancelled_at is None:
                visit.cancelled_at = now
                visit.cancelled.set()
                self._stop_handler(visit)

    def _stop_handler(self, visit: Visit) -> None:
        for stop in list(visit.stoppers):
            try:
                stop()
            except BaseException:  # the beat goes on: it is everybody's
                log.exception("a handler can't be stopped", step_run_id=str(visit.claim.id))
        if visit.task is not None:
            self._loop.cancel(visit.task)

    def _end_overdue(self) -> None:
        """A blocking handler can't be stopped: past its deadline its step fails, and its late result is dropped."""
        now = time.monotonic()
        for visit in self._in_flight.visits():
            if visit.performed_since is not None and now > visit.deadline + 1:
                self._abandon(visit, perform.judge_error(visit, perform.timed_out(visit)))
                self._stop_handler(visit)  # after the result: the end of its process would be taken for a loss

    def _abandon(self, visit: Visit, result: StepResult) -> None:
        """Record the result of a handler that is too late; end the process where it keeps its only thread."""
        self._results.finish(visit, result)
        if visit.around is not None:  # its thread is the same: the function waits for the step without it
            claim = visit.around.claim
            self._results.finish(visit.around, StepResult(claim=claim, outcome=Suspended(awaited=(visit.claim.id,))))
        if self._profile.runs_in_task_thread and visit.performs_here and not self._in_flight.is_draining:
            threading.Thread(target=self._end_process, args=(visit,), name="end", daemon=True).start()

    def _end_process(self, visit: Visit) -> None:
        """The hard stop of a compute child: hand back what else it has, record everything, and end. The pool has a new
        one in a moment."""
        deadline = time.monotonic() + LEAVE_HANDLER_S
        while visit.performs_here and time.monotonic() < deadline:
            time.sleep(0.05)
        if visit.performs_here and not self._in_flight.is_draining:
            log.warning(
                "a handler does not stop: its process ends", step=visit.claim.key, run_id=str(visit.claim.run_id)
            )
            self._drain(0.0)
            logging.shutdown()
            os._exit(0)
