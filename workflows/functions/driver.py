"""Visits of sync flows: the code runs in one thread, and every call of a step tool returns, or ends the visit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from workflows.engine.pipeline import perform
from workflows.engine.worker import ending
from workflows.functions.calls import Call, handler_of
from workflows.functions.failures import StepFailed, Suspend, TargetDone
from workflows.functions.journal import Place
from workflows.functions.surroundings import Surroundings
from workflows.functions.tools import Step
from workflows.functions.visits import AWAY_S, IN_PLACE_S, FunctionRun, Unfinished, is_ended, performing
from workflows.steps.context import StepContext
from workflows.steps.outcome import Outcome


class Driver:
    """Drives one visit of a sync flow."""

    def __init__(self, run: FunctionRun) -> None:
        self.run = run
        self._branches = 0
        self._in_place_s = 0.0
        """Seconds that the visit may still spend on the branches that are open. Nothing any more where one of them has
        to wait: the gather waits for that one anyway, and the rest of it is dispatched, too."""
        self._failed_before = 0
        """How many failures the code had seen when the branches were opened: it has gone on after those."""
        self._handled: int | None = None
        """The same, where the visit ends within branches; None: the code has gone on after all."""
        self._failed_here: UUID | None = None
        """A branch that has failed in this visit."""
        self._calls = 0
        """How many steps the code has asked for."""

    def drive(self) -> Outcome:
        """Run the code until it ends or has to wait."""
        run = self.run
        try:
            value = run.flow.function(run.event(), Step(self))
            if run.awaited or run.new:  # it has started steps that it does not wait for: the run does
                run.any_of = False
                return run.suspended()
            return run.completed(value)
        except Suspend:
            return run.suspended(self._handled)
        finally:
            run.close()

    def call(self, call: Call) -> Any:
        """The value of a step; the visit ends where it has none yet. Raises StepFailed."""
        run = self.run
        call = run.around.adapted(call)
        place = run.enter(call)
        self._calls += 1
        if not self._branches:
            run.journal.check_order(place)
        if place.row is not None and is_ended(place.row):
            return run.value(call, place.row)
        if run.is_target(place):
            self._perform_target(call)
        if place.row is not None:
            self._in_place_s = 0.0
            run.wait_for(place.row)
            raise Suspend
        if run.target is not None:
            raise Suspend
        return self._new(call, place)

    def just(self, value: Any) -> Any:
        """The value itself, as a call would give it."""
        return value

    def _new(self, call: Call, place: Place) -> Any:
        run = self.run
        if not self._branches:
            run.journal.check_new(place)
        new = run.make_new(call, place)
        if not run.may_perform(new) or (self._branches and not run.is_quick([new], self._in_place_s)):
            self._in_place_s = 0.0
            run.new.append(new)
            raise Suspend
        visit = run.begin(new, handled=self._failed_before if self._branches else None)
        self._failed_before = 0
        if visit is None:
            self._in_place_s = 0.0
            raise Suspend
        began = time.monotonic()
        result = perform.perform(run.rendered(visit), lambda context: perform_step(call, context, run.around))
        if self._branches:
            self._in_place_s -= run.spent_on(new, time.monotonic() - began)
        try:
            return run.take(call, visit, result)
        except StepFailed:
            self._failed_here = visit.claim.id
            raise
        except Unfinished as unfinished:
            run.awaited.append(unfinished.step_run_id)
            self._in_place_s = 0.0
            raise Suspend from None

    def _perform_target(self, call: Call) -> None:
        if self.run.only_finds:
            raise TargetDone(call)
        try:
            value = perform_step(call, self.run.context, self.run.around, wakes=True)
        except BaseException as error:
            ending.raise_if_ending(error)
            raise TargetDone(error=error) from None
        raise TargetDone(value)

    def parallel(self, branches: Sequence[Callable[[], Any]], *, return_exceptions: bool = False) -> list[Any]:
        """The values of all branches, each a function that may call step tools. None waits for another."""
        self.run.any_of = True
        return self._all(branches, return_exceptions=return_exceptions)

    def map(self, calls: Sequence[Call], *, parallelism: int | None, return_exceptions: bool) -> list[Any]:
        """The values of all calls, at most `parallelism` of them at a time."""
        if parallelism is not None:
            self.run.any_of = True
        return self._all(
            [lambda call=call: self.call(call) for call in calls],  # type: ignore[misc]
            return_exceptions=return_exceptions,
            most=parallelism,
        )

    def _all(
        self, branches: Sequence[Callable[[], Any]], *, return_exceptions: bool, most: int | None = None
    ) -> list[Any]:
        values: list[Any] = []
        failed: StepFailed | None = None
        open_branches = 0
        has_unbegun = False
        if not self._branches:
            is_small = most is None and len(branches) * IN_PLACE_S <= AWAY_S
            self._in_place_s = AWAY_S if is_small else 0.0
            self._failed_before, self._handled, self._failed_here = len(self.run.failed), None, None
        self._branches += 1
        try:
            for branch in branches:
                calls, new = self._calls, len(self.run.new)
                try:
                    values.append(branch())
                except Suspend:
                    open_branches += 1
                    asked, begins = self._calls - calls, len(self.run.new) - new
                    has_unbegun = has_unbegun or 0 < begins == asked  # nothing of it is in the journal
                    if most is not None and open_branches >= most:
                        break
                except StepFailed as error:
                    failed = failed or error
                    values.append(error)
        finally:
            self._branches -= 1
        if failed is not None and not return_exceptions:
            ended = self._failed_here or (self.run.failed[-1] if self.run.failed and has_unbegun else None)
            if ended is None or not (open_branches and self.run.new):
                self._handled = None
                raise failed
            self.run.awaited.append(ended)  # the others begin first, as ever: also where a worker has died before
        if open_branches:
            self._handled = self._failed_before
            raise Suspend
        return values


def perform_step(call: Call, context: StepContext, around: Surroundings, *, wakes: bool = False) -> Any:
    """What the function of a step returns. `wakes`: its flow waits for it. Raises what that raises."""
    with performing(context):
        if call.is_atomic:
            return around.atomically(call, context, wakes=wakes)
        value = handler_of(call)(context)
        return around.result_of(value) if call.is_async else value
