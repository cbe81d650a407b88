"""What a worker does with steps whose worker was lost before: each is performed in a process where nothing else runs.

A step that kills its process kills nobody's neighbours a second time, and only its own deaths count against it.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from workflows.engine.pipeline.perform import Visit
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.sql import worker as sql
from workflows.engine.state import database
from workflows.engine.state.records import StepResult
from workflows.engine.state.transitions import rescue as rescue_transitions
from workflows.engine.telemetry import step_events
from workflows.engine.worker.alone.solitary import ProcessLost, SolitaryProcess
from workflows.engine.worker.in_flight import InFlight, ResultQueue
from workflows.engine.worker.permits import Permits
from workflows.engine.worker.profile import WorkerProfile
from workflows.errors import ResourceExhausted
from workflows.steps.outcome import Cancelled, Failed, HandBack

log = structlog.get_logger(__name__)
SOLITARY_PROCESSES = 4
MAX_SUSPECTS = 2 * SOLITARY_PROCESSES
"""Suspects that hold a slot of the worker at once: those that are performed, and as many that wait for a process."""
SUSPECTS_WAIT_S = 2.0
START_TRIES = 3


class Suspects:
    """Performs suspects: steps that may have been the cause. Each of its threads has a process of its own."""

    def __init__(self, profile: WorkerProfile, in_flight: InFlight, results: ResultQueue, permits: Permits) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._results = results
        self._permits = permits
        self._lock = threading.Lock()
        self._count = 0
        self._processes: dict[int, SolitaryProcess] = {}
        self._threads = ThreadPoolExecutor(
            max_workers=SOLITARY_PROCESSES, thread_name_prefix="step_alone", initializer=database.adopt
        )

    def includes(self, visit: Visit) -> bool:
        """Whether a step is performed alone: one whose worker was lost twice, and one that lost its worker once where a
        process is free. When a machine ends, hundreds lose their worker at once; they do not wait for each other."""
        losses = 0 if visit.step.type.watches else visit.claim.losses
        return losses > 1 or (losses == 1 and self._count < SOLITARY_PROCESSES)

    def start(self, visit: Visit) -> None:
        """Perform a step alone: in the visiting thread where that is a process's only place, else by a thread for
        suspects. Where enough of them wait for one, the step goes back, and another worker may take it."""
        here = self._profile.runs_in_task_thread and not visit.step.type.detached
        with self._lock:
            has_room = here or self._count < MAX_SUSPECTS
            self._count += has_room
        if not has_room:
            later = HandBack(after_s=random.uniform(1.0, 2.0) * SUSPECTS_WAIT_S)
            self._results.finish(visit, StepResult(claim=visit.claim, outcome=later))
            return
        if here:
            self._perform(visit)
            return
        visit.is_elsewhere = True
        self._threads.submit(self._perform, visit)

    def end(self) -> None:
        """Start no step any more, and kill the processes: what they performed has been handed back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes.values()):
            process.kill()

    def _perform(self, visit: Visit) -> None:
        try:
            result = self._result(visit)
        except Exception:
            log.exception("a step could not be performed alone; rescue will", step_run_id=str(visit.claim.id))
            self._in_flight.forget([visit.claim.id])
        else:
            if result is not None:
                self._results.finish(visit, result)
        finally:
            with self._lock:
                self._count -= 1

    def _result(self, visit: Visit) -> StepResult | None:
        for _ in range(START_TRIES):
            process = self._process_of_this_thread()
            if visit.is_closed or self._in_flight.get(visit.claim.id) is not visit:
                return None  # handed back, or given up, meanwhile
            visit.performed_since = time.monotonic()
            visit.stoppers.append(process.kill)
            try:
                result = process.perform(
                    visit.claim,
                    lambda report: setattr(visit, "progress", report),
                    functools.partial(self._may_start, visit),
                    functools.partial(setattr, visit, "due_at"),
                )
            except ProcessLost as lost:
                self._drop_process()
                return self._charge(visit, lost)
            except BaseException:  # it may wait for an answer still, and would take the next claim for that
                self._drop_process()
                raise
            finally:
                visit.stoppers.remove(process.kill)
            if result is not None:
                is_back = isinstance(result.outcome, HandBack) and result.outcome.after_s is None
                return visit.handed_back() if is_back else result
            self._drop_process()  # it was idle for so long that it ended
        return StepResult(claim=visit.claim, outcome=HandBack())

    def _may_start(self, visit: Visit) -> bool:
        """Whether the step may start now; the monitors are told, since its process tells nobody."""
        if visit.is_closed or not self._permits.may_start([visit]) or visit.is_closed:
            return False
        visit.performed_since = time.monotonic()
        step_events.started(visit.claim)
        return True

    def _charge(self, visit: Visit, lost: ProcessLost) -> StepResult | None:
        """What follows where a step's own process has ended: by us (a cancel, a deadline), or by what the step does."""
        if visit.cancelled.is_set():
            return StepResult(claim=visit.claim, outcome=Cancelled())
        if visit.is_closed:
            return None
        message = f"Its process {lost} while it performed this step alone."
        log.warning(
            "a step has ended its process", step_run_id=str(visit.claim.id), type=visit.claim.type, how=str(lost)
        )
        rows = sql.charge_loss(id=visit.claim.id, lease=visit.claim.lease, message=message)
        if not rows:
            return None
        if rows[0].solitary_losses < rescue_transitions.MAX_LOSSES:
            return StepResult(claim=visit.claim, outcome=HandBack())
        error = ResourceExhausted(f"The step has ended its process {rescue_transitions.MAX_LOSSES} times. {message}")
        return StepResult(claim=visit.claim, outcome=Failed(error=describe(error)))

    def _process_of_this_thread(self) -> SolitaryProcess:
        found = self._processes.get(threading.get_ident())
        if found is None:
            found = SolitaryProcess()
            self._processes[threading.get_ident()] = found
            if not found.await_ready():
                self._drop_process()
                raise RuntimeError("The process for a step whose worker was lost does not start.")
        return found

    def _drop_process(self) -> None:
        process = self._processes.pop(threading.get_ident(), None)
        if process is not None:
            process.close()
