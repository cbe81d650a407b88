"""A worker process's heartbeat: it renews what is held, reports the worker, and stops what is cancelled or overdue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

import psycopg
import structlog

from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import Visit
from workflows.engine.sql import worker as sql
from workflows.engine.state import database
from workflows.engine.state.records import Verdict
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.worker.permits import HandOver
from workflows.payload import dump
from workflows.steps.outcome import Cancelled, Failed, Retry, Sleep

log = structlog.get_logger(__name__)

HEARTBEAT_S = step_transitions.LEASE_S / 5
RENEW_AFTER_S = HEARTBEAT_S
PROGRESS_S = 0.5
BLIND_AFTER_S = step_transitions.LEASE_S * 0.8
OVERDUE_GRACE_S = 30.0
LEAVE_HANDLER_S = 1.0


class Heartbeat(HandOver):
    """The part of a runtime that looks after what it executes. On a thread and a connection of its own."""

    name: str
    _visiting: int
    _unclaimed: int
    _last_seen: float
    _claimed_until: dict[str, float]
    _loop: asyncio.AbstractEventLoop | None
    _draining: threading.Event
    _stopped: threading.Event
    _background: list[threading.Thread]

    def finish(self, visit: Visit, verdict: Verdict) -> None:
        raise NotImplementedError

    def drain(self, patience_s: float) -> None:
        raise NotImplementedError

    def _beat_forever(self) -> None:
        """On its own thread and connection, so that no handler and no slow statement can delay it."""
        database.adopt()
        beat_at = time.monotonic() + HEARTBEAT_S
        while not self._stopped.wait(min(PROGRESS_S, HEARTBEAT_S)):
            try:
                self._store_progress()
                if time.monotonic() < beat_at:
                    continue
                beat_at = time.monotonic() + HEARTBEAT_S
                self._cancel_some(self._beat())
                self._report()
                self._last_seen = time.monotonic()
                self._end_overdue()
            except psycopg.Error as error:
                log.warning("heartbeat failed", error=str(error))
            except Exception:
                log.exception("heartbeat failed")
        database.close()

    def _store_progress(self) -> None:
        """What handlers have reported since the last time, by one statement."""
        reports = []
        for visit in list(self._visits.values()):
            if visit.progress is not None and not visit.is_closed:
                report, visit.progress = visit.progress, None
                reports.append({"id": str(visit.claim.id), "lease": str(visit.claim.lease), "progress": report})
        if reports:
            self._store_reports(reports)

    def _keep_progress(self, visit: Visit, verdict: Verdict) -> None:
        """Before a step goes to sleep, or fails: what it reported last is shown meanwhile, and afterwards."""
        if visit.progress is not None and isinstance(verdict.outcome, Sleep | Failed | Retry):
            report, visit.progress = visit.progress, None
            with contextlib.suppress(psycopg.Error):  # it matters less than the verdict
                self._store_reports([{"id": str(visit.claim.id), "lease": str(visit.claim.lease), "progress": report}])

    def _store_reports(self, reports: list[dict[str, Any]]) -> None:
        """All together; each by itself where that fails, so that a bad one keeps no other from being stored."""
        try:
            sql.report_progress(reports=dump(reports, what="The progress"))
        except BaseException as error:
            if database.is_away(error):
                raise
            if len(reports) == 1:
                log.warning("progress can't be stored", step_run_id=reports[0]["id"], error=str(error))
                return
            for report in reports:
                self._store_reports([report])

    def _beat(self) -> set[UUID]:
        """Renew what is held, and return what is cancelled of all that runs here, however young."""
        now = time.monotonic()
        visits = list(self._visits.values())
        held = [v for v in visits if now - v.claimed_at > RENEW_AFTER_S and now < v.deadline + OVERDUE_GRACE_S]
        young = [v.claim.id for v in visits if now - v.claimed_at <= RENEW_AFTER_S]
        cancelled = self._renew(held) if held else set()
        if young:
            cancelled |= {row.id for row in sql.cancelled_among(ids=young)}
        return cancelled

    def _renew(self, held: Sequence[Visit]) -> set[UUID]:
        rows = sql.renew_leases(
            ids=[v.claim.id for v in held], leases=[v.claim.lease for v in held], lease_s=step_transitions.LEASE_S
        )
        self._renew_permits(held)
        return {row.id for row in rows if row.cancelled}

    def _cancel_some(self, cancelled: Container[UUID]) -> None:
        """Ask the handlers of cancelled runs to stop; one that has not done so by the next beat is not waited for."""
        now = time.monotonic()
        for visit in list(self._visits.values()):
            if visit.cancelled_at is not None and now - visit.cancelled_at > HEARTBEAT_S / 2:
                self._abandon(visit, Verdict(claim=visit.claim, outcome=Cancelled()))
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
        if visit.task is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(visit.task.cancel)

    def _end_overdue(self) -> None:
        """A blocking handler can't be stopped: past its deadline its step fails, and its late result is dropped."""
        now = time.monotonic()
        for visit in list(self._visits.values()):
            if visit.performed_since is not None and now > visit.deadline + 1:
                self._abandon(visit, perform.judge_error(visit, perform.timed_out(visit)))
                self._stop_handler(visit)  # after the verdict: the end of its process would be taken for a loss

    def _abandon(self, visit: Visit, verdict: Verdict) -> None:
        """Record what its handler's lateness means. One that keeps the only thread of a process ends that process."""
        self.finish(visit, verdict)
        if self.own_thread and visit.performs_here and not self._draining.is_set():
            threading.Thread(target=self._end_process, args=(visit,), name="end", daemon=True).start()

    def _end_process(self, visit: Visit) -> None:
        """The hard stop of a compute child: hand back what else it has, record everything, and end. The pool has a new
        one in a moment."""
        deadline = time.monotonic() + LEAVE_HANDLER_S
        while visit.performs_here and time.monotonic() < deadline:
            time.sleep(0.05)
        if visit.performs_here and not self._draining.is_set():
            log.warning(
                "a handler does not stop: its process ends", step=visit.claim.key, run_id=str(visit.claim.run_id)
            )
            self.drain(0.0)
            logging.shutdown()
            os._exit(0)

    def _report(self) -> None:
        """A prefork child is busy while its one Celery task is, whatever runs detached beside it."""
        slots, active = (1, self._visiting) if self.own_thread else (self.slots, len(self._visits))
        sql.report_worker(
            id=self.id,
            name=self.name,
            queues=sorted(self.queues),
            slots=slots,
            capacity=self.slots,
            lanes=json.dumps(self.lanes),
            active=active,
            unclaimed=self._unclaimed,
            claimed_until=json.dumps(self._claimed_until),
        )
