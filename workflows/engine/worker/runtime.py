"""The engine within one worker process: visits, performers, the recorder, the heartbeat and the drain.

A Celery task brings a batch; `visit` claims it. Inline handlers run in the visiting thread and their outcomes are
recorded there, by one statement that also claims the successors; asynchronous handlers run on one event loop, blocking
ones in a bounded pool, and their outcomes go to the recorder thread, which groups what has come while it was writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import structlog
from django.db import connections

from workflows.engine.pipeline import admit, batch_size, perform, publish
from workflows.engine.pipeline.perform import Prepared, Visit
from workflows.engine.pipeline.record import record
from workflows.engine.sql import leader as leader_sql
from workflows.engine.state import database, flow_cache, unloadable
from workflows.engine.state.records import Claim, Recorded, Verdict, always
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.telemetry import job_log, step_events, step_log
from workflows.engine.worker import ending, vital
from workflows.engine.worker.alone import Alone
from workflows.engine.worker.heartbeat import BLIND_AFTER_S
from workflows.steps import sandbox
from workflows.steps.http import client
from workflows.steps.outcome import HandBack
from workflows.steps.registry import Mode

log = structlog.get_logger(__name__)

FLUSH_AFTER_S = 0.005
HAND_BACK_TAIL_AFTER_S = 0.250
CONTINUE_FOR_S = 1.0
MAX_CONTINUED = 50
MAX_GROUP = 500
MAX_GROUP_BYTES = 8 * 1024 * 1024
CLAIM_PATIENCE_S = 5.0
VISITORS = 4


class Runtime(Alone):
    """One per worker process. `start` it after a fork, never before."""

    def __init__(
        self,
        *,
        name: str,
        queues: Iterable[str],
        slots: int,
        threads: int,
        own_thread: bool,
        max_continued: int = MAX_CONTINUED,
        lanes: Mapping[str, int] | None = None,
    ) -> None:
        """`slots`: steps executing at once; `threads`: the pool of blocking handlers; `own_thread`: perform blocking
        handlers in the visiting thread (prefork children), except detached ones; `max_continued`: with how many steps
        it goes on after recording a group; `lanes`: how many permits it adds to each (as many as its slots, and as many
        again in the broker, unless told)."""
        self.id: UUID = uuid4()
        self.name = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self.queues = frozenset(queues)
        self.slots = slots
        self.lanes = dict(lanes) if lanes is not None else dict.fromkeys(self.queues, 2 * slots)
        self.own_thread = own_thread
        self._threads = threads
        self._max_continued = max_continued
        self._visits: dict[UUID, Visit] = {}
        self._room = threading.Condition()
        self._unclaimed = 0
        self._visiting = 0
        self._blocking = 0
        self._going = 0
        self._suspects = 0
        self._solitary_threads = None
        self._solitary = {}
        self._claimed_until: dict[str, float] = {}
        self._verdicts: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None
        self._visitors: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self._loop_is_over = False
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._last_seen = time.monotonic()
        self._background: list[threading.Thread] = []

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the recorder and the heartbeat, and announce the worker."""
        self._pool = ThreadPoolExecutor(
            max_workers=self._threads, thread_name_prefix="step", initializer=database.adopt
        )
        self._visitors = ThreadPoolExecutor(
            max_workers=VISITORS, thread_name_prefix="visit", initializer=database.adopt
        )
        database.adopt()
        self._report()
        for target, name in ((self._record_forever, "recorder"), (self._beat_forever, "heartbeat")):
            self._background.append(vital.start(name, target))

    def drain(self, patience_s: float) -> None:
        """Let what runs end for a while, hand the rest back, record everything, and say goodbye."""
        self._draining.set()
        deadline = time.monotonic() + patience_s
        with self._room:
            self._room.notify_all()
            while (self._visits or self._unclaimed) and time.monotonic() < deadline:
                self._room.wait(0.05)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)  # nothing starts any more …
        if self._visitors is not None:
            self._visitors.shutdown(wait=False, cancel_futures=True)
        for visit in list(self._visits.values()):  # … before it is handed back
            self.finish(visit, Verdict(claim=visit.claim, outcome=HandBack()))
        self._end_solitary()
        self._stopped.set()
        self._verdicts.put(None)
        for thread in self._background:
            thread.join(timeout=5)
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(client.close(), self._loop).result(2)
            self._loop.call_soon_threadsafe(self._loop.stop)
        sandbox.close()
        step_events.stop()
        leader_sql.forget_workers(id=self.id, silent_s=600.0)

    # --- visiting ---------------------------------------------------------------------------------------------

    def visit(self, batch: Sequence[tuple[str, int]]) -> None:
        """Take a message: wait for room, claim its steps, and perform or hand them over. Called by Celery tasks."""
        database.adopt()
        claims: list[Claim] = []
        with self._room:
            self._unclaimed += 1
        try:
            if not self._wait_for_room():
                return  # draining: the steps stay ready, and rescue publishes them again
            lease, asked = uuid4(), time.monotonic()
            claims = self._claim(batch, lease)
            if claims and admit.ENABLED:
                asked = time.monotonic()
                claims = self._confirm(claims, lease)
        except BaseException as error:
            self._leave_if_ending(error, claims, ())
            raise
        finally:
            with self._room:
                self._unclaimed -= 1
        self._visiting += 1
        try:
            self.run(claims, asked)
        finally:
            self._visiting -= 1

    def _wait_for_room(self) -> bool:
        with self._room:
            while not self._draining.is_set():
                if len(self._visits) < self.slots and time.monotonic() - self._last_seen < BLIND_AFTER_S:
                    return True
                self._room.wait(0.25)
        return False

    def _claim(self, batch: Sequence[tuple[str, int | None]], lease: UUID, *, by_message: bool = True) -> list[Claim]:
        """`by_message`: the steps came through the broker, whose order tells rescue what is lost."""
        give_up = time.monotonic() + CLAIM_PATIENCE_S
        while True:
            try:
                claimed = step_transitions.claim(batch, worker=self.id, lease=lease)
                break
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up:
                    log.warning("claim failed; rescue will publish the steps again", steps=len(batch), error=str(error))
                    return []
                time.sleep(0.1)
        for name, moment in claimed.newest_dispatch.items() if by_message else ():
            if moment > self._claimed_until.get(name, 0.0):
                self._claimed_until[name] = moment
        job_log.started(claimed.claims)
        usable, refused = flow_cache.divide(claimed.claims)
        for claim, why in refused:
            log.warning("a step's version can't be loaded", step_run_id=str(claim.id), reason=str(why))
            self._verdicts.put(unloadable.verdict_on(claim, why))
        if refused:  # nothing confirms the permits that they came with
            try:
                publish.withdraw([claim.id for claim, _ in refused])
            except Exception as error:
                log.warning("permits could not be given back; the audit will", permits=len(refused), exc_info=error)
        return usable

    # --- performing -------------------------------------------------------------------------------------------

    def run(self, claims: list[Claim], asked: float) -> None:
        """Perform claimed steps that asked for their permits at `asked`; continue with what the gate hands over."""
        continue_until = time.monotonic() + CONTINUE_FOR_S
        while claims:
            verdicts: list[Verdict] = []
            try:
                self._perform_inline(self._open(claims, asked), verdicts)
            except BaseException as error:
                self._leave_if_ending(error, claims, verdicts)
                log.exception("a visit failed; rescue will run its steps again", steps=len(claims))
                self._forget(claim.id for claim in claims)
                return
            if not verdicts:
                return
            budget = self._max_continued if time.monotonic() < continue_until and not self._draining.is_set() else 0
            claims, asked = self._record(verdicts, budget)

    def _leave_if_ending(self, error: BaseException, claims: Iterable[Claim], verdicts: Iterable[Verdict]) -> None:
        """Where a signal ends this process: what has been performed is recorded, what has not goes back, and the error
        goes on its way. What other threads perform is left to the drain."""
        try:
            ending.raise_if_ending(error)
        except SystemExit:
            for verdict in verdicts:
                self._verdicts.put(verdict)
            for claim in claims:
                visit = self._visits.get(claim.id)
                if visit is None:  # not begun; or recorded already, and then its lease is over
                    self._verdicts.put(Verdict(claim=claim, outcome=HandBack()))
                elif not visit.is_elsewhere:
                    self.finish(visit, Verdict(claim=claim, outcome=HandBack()))
            raise

    def _open(self, claims: list[Claim], asked: float) -> list[Visit]:
        visits = perform.open_visits(claims)
        self._start_soon(visits, asked)
        step_log.log_configuration(visits)
        step_events.received((visit.claim, visit.flow.slug) for visit in visits)
        with self._room:
            self._visits.update((visit.claim.id, visit) for visit in visits)
        return visits

    def _perform_inline(self, visits: list[Visit], verdicts: list[Verdict]) -> None:
        """Start what runs elsewhere, perform the rest here. Adds the verdicts that are still to be recorded."""
        here: list[Prepared] = []
        for visit in visits:
            if self._is_suspect(visit):
                self._start_alone(visit)
                continue
            prepared = perform.prepare(visit)
            if isinstance(prepared, Verdict):
                self._close(visit, prepared, verdicts)
            elif self._belongs_here(prepared):
                here.append(prepared)
            else:
                self._start_elsewhere(prepared)
        begun = flushed = time.monotonic()
        may_start = {visit.claim.id for visit in visits}
        for position, prepared in enumerate(here):
            started = time.monotonic()
            if begun + HAND_BACK_TAIL_AFTER_S < started and position:
                for unstarted in here[position:]:
                    self._close(unstarted.visit, Verdict(claim=unstarted.visit.claim, outcome=HandBack()), verdicts)
                break
            if started > prepared.visit.start_by:
                may_start = self._may_start([late.visit for late in here[position:]])
                started = time.monotonic()
            if prepared.visit.claim.id not in may_start:
                self._close(prepared.visit, Verdict(claim=prepared.visit.claim, outcome=HandBack()), verdicts)
                continue
            if prepared.visit.step.mode is Mode.THREAD:
                prepared.visit.performed_since = started
                prepared.context.deadline = prepared.visit.deadline
            prepared.visit.performs_here = True
            verdict = perform.perform(prepared)
            prepared.visit.performs_here = False
            self._keep_progress(prepared.visit, verdict)
            self._close(prepared.visit, verdict, verdicts)
            now = time.monotonic()
            batch_size.observe(prepared.visit.claim.version_id, prepared.visit.claim.key, now - started)
            if now - flushed > FLUSH_AFTER_S and position + 1 < len(here):
                for verdict in verdicts:
                    self._verdicts.put(verdict)
                verdicts.clear()
                flushed = now

    def _belongs_here(self, prepared: Prepared) -> bool:
        step = prepared.visit.step
        return step.mode is Mode.INLINE or (step.mode is Mode.THREAD and self.own_thread and not step.type.detached)

    def _start_elsewhere(self, prepared: Prepared) -> None:
        prepared.visit.is_elsewhere = True
        if prepared.visit.step.mode is Mode.ASYNC:
            self._call_soon(self._perform_on_loop(prepared))
        else:
            assert self._pool is not None
            with self._room:
                self._blocking += 1
            self._pool.submit(self._perform_in_pool, prepared)

    def _perform_in_pool(self, prepared: Prepared) -> None:
        try:
            self._perform_blocking(prepared)
        except BaseException as error:
            self._give_up(prepared.visit, error)
        finally:
            with self._room:
                self._blocking -= 1

    def _perform_blocking(self, prepared: Prepared) -> None:
        visit = prepared.visit
        if visit.is_closed:
            return  # handed back meanwhile
        if not self._may_start([visit]):
            self.finish(visit, Verdict(claim=visit.claim, outcome=HandBack()))
            return
        visit.performed_since = time.monotonic()
        prepared.context.deadline = visit.deadline
        try:
            verdict = perform.perform(prepared)
            self._keep_progress(visit, verdict)
            self.finish(visit, verdict)
        finally:
            connections.close_all()  # handlers may use Django's connections; they go back to the pool at once

    async def _perform_on_loop(self, prepared: Prepared) -> None:
        prepared.visit.task = asyncio.current_task()
        try:
            if not self._may_start([prepared.visit]):
                self.finish(prepared.visit, Verdict(claim=prepared.visit.claim, outcome=HandBack()))
                return
            self.finish(prepared.visit, await perform.perform_async(prepared))
        except BaseException as error:
            self._give_up(prepared.visit, error)

    def _give_up(self, visit: Visit, error: BaseException) -> None:
        """Something around the handler failed (the gate's answer, say): the step is handed back, and no other is."""
        log.warning("a step is handed back", step_run_id=str(visit.claim.id), exc_info=error)
        self.finish(visit, Verdict(claim=visit.claim, outcome=HandBack()))

    def _loop_forever(self) -> None:
        """The event loop. What a task of a handler raises out of it (SystemExit, say) ends that task only."""
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        while not self._loop_is_over:
            try:
                self._loop.run_forever()
                self._loop_is_over = True
            except BaseException:
                log.exception("a handler's task would have ended the event loop; it goes on")

    def _call_soon(self, work: Coroutine[Any, Any, None]) -> None:
        with self._loop_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                vital.start("loop", self._loop_forever)
        asyncio.run_coroutine_threadsafe(work, self._loop)

    # --- recording --------------------------------------------------------------------------------------------

    def finish(self, visit: Visit, verdict: Verdict) -> None:
        """Hand a verdict to the recorder; a second one of the same visit is dropped."""
        if visit.close():
            self._verdicts.put(verdict)

    def _close(self, visit: Visit, verdict: Verdict, verdicts: list[Verdict]) -> None:
        if visit.close():
            verdicts.append(verdict)

    def _record(self, verdicts: list[Verdict], budget: int) -> tuple[list[Claim], float]:
        """Record, hand the permits over, and return what this visit continues with, and when it asked for it."""
        asked = time.monotonic()
        try:
            result = record(
                verdicts,
                worker=self.id,
                queues=self.queues,
                budget=self._room_for(budget) if admit.ENABLED else budget,
                may_continue=admit.free_steps() if admit.ENABLED else always,
            )
            step_log.log_steps(verdicts, result.landed)
        except BaseException as error:
            self._leave_if_ending(error, (), verdicts)
            log.exception("outcomes could not be recorded; rescue will run the steps again", steps=len(verdicts))
            result = Recorded()
        finally:
            self._forget(verdict.claim.id for verdict in verdicts)
        return self._follow(result, verdicts, budget) or (result.claimed, asked)

    def _follow(self, result: Recorded, verdicts: list[Verdict], budget: int) -> tuple[list[Claim], float] | None:
        """Go on with what became ready. What fails here, rescue makes good."""
        try:
            if admit.ENABLED:
                return self._hand_over(result, verdicts, budget)
            if result.ready:
                publish.dispatch(result.ready)
        except BaseException as error:
            self._leave_if_ending(error, result.claimed, ())
            log.exception("hand-over failed; rescue will go on", steps=len(result.ready))
            if admit.ENABLED:
                return [], 0.0
        return None

    def _go_on(self, claims: list[Claim], asked: float) -> None:
        try:
            self.run(claims, asked)
        except BaseException:
            log.exception("a visit failed; rescue will run its steps again", steps=len(claims))
        finally:
            with self._room:
                self._going -= 1

    def _forget(self, step_run_ids: Iterable[UUID]) -> None:
        with self._room:
            for step_run_id in step_run_ids:
                self._visits.pop(step_run_id, None)
            self._room.notify_all()

    def _record_forever(self) -> None:
        """The recorder: no delay when idle; while it writes, what comes meanwhile forms the next group."""
        database.adopt()
        while True:
            group = [self._verdicts.get()]
            size = _size(group[0])
            while len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
                try:
                    group.append(self._verdicts.get_nowait())
                except queue.Empty:
                    break
                size += _size(group[-1])
            verdicts = [verdict for verdict in group if verdict is not None]
            if verdicts:
                # Only what a visitor takes up at once is taken: a claim that waits for one would lose its lease.
                budget = self._max_continued if self._going < VISITORS and not self._draining.is_set() else 0
                claims, asked = self._record(verdicts, budget)
                if claims and self._visitors is not None:
                    with self._room:
                        self._going += 1
                    with contextlib.suppress(RuntimeError):  # draining: nothing is taken any more; rescue will
                        self._visitors.submit(self._go_on, claims, asked)
            if len(verdicts) < len(group):
                database.close()
                return


def _size(verdict: Verdict | None) -> int:
    return len(verdict.output or "") + len(verdict.input or "") if verdict else 0
