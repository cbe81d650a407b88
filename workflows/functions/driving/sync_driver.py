"""Visits of sync flows: the code runs in one thread, and every call of a step tool returns, or ends the visit."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NoReturn

import structlog

from workflows.engine.pipeline import perform
from workflows.engine.worker import ending
from workflows.errors import StepCancelled
from workflows.functions.calls import Call, handler_of
from workflows.functions.failures import (
    Nondeterminism,
    StepCallRefused,
    StepFailed,
    Suspend,
    TargetDone,
    is_of_the_code,
)
from workflows.functions.journal import Place, later
from workflows.functions.surroundings import Surroundings
from workflows.functions.tools import Step
from workflows.functions.visits import AWAY_S, IN_PLACE_S, FunctionRun, Unfinished, is_ended, performing
from workflows.steps.context import StepContext
from workflows.steps.outcome import Outcome

log = structlog.get_logger(__name__)


class Driver:
    """Drives one visit of a sync flow."""

    is_async = False

    def __init__(self, run: FunctionRun) -> None:
        self.run = run
        self._thread = 0
        self._branches = 0
        self._in_place_s = 0.0
        """Seconds that the visit may still spend on the branches that are open. Nothing any more where one of them has
        to wait: the gather waits for that one anyway, and the rest of it is dispatched, too."""
        self._failed_before = 0
        """How many failures the code had seen when the branches were opened: it has gone on after those."""
        self._handled: int | None = None
        """The same, where the visit ends within branches; None: the code has gone on after all."""
        self._gathers: Counter[str] = Counter()
        """How many the code has opened, by branch."""
        self._last_end_at: dt.datetime | None = None
        """When the latest step ended that the branch which is gone through has asked for."""

    def drive(self) -> Outcome:
        """Run the code until it ends or has to wait."""
        run = self.run
        self._thread = threading.get_ident()
        try:
            try:
                value = run.flow.function(run.event(), Step(self))
            except Suspend:
                pass
            except Exception:
                if run.leaving is None:
                    raise
                log.debug("the code of a flow raises while it is left", flow=run.flow.slug, exc_info=True)
            if isinstance(run.leaving, Suspend):
                return run.suspended(self._handled)
            if run.leaving is not None:
                raise run.leaving
            if run.awaited or run.new:  # it has started steps that it does not wait for: the run does
                run.any_of = False
                return run.suspended()
            return run.completed(value)
        finally:
            run.close()

    def _leave(self, why: BaseException) -> NoReturn:
        """Leave the code. Its blocks of `finally` run, and whatever step they ask for leaves it once more."""
        self.run.leaving = why
        raise why from None

    def _check_stays(self) -> None:
        if self.run.leaving is not None:
            raise self.run.leaving

    def call(self, call: Call) -> Any:
        """The value of a step; the visit ends where it has none yet. Raises StepFailed."""
        self._check_stays()
        try:
            return self._called(call)
        except (Exception, StepCancelled) as error:
            if not is_of_the_code(error):
                self.run.leaving = error
            raise

    def _called(self, call: Call) -> Any:
        if threading.get_ident() != self._thread:
            raise StepCallRefused(
                f"The step {call.name!r} is called in another thread than its flow. Use step.parallel or step.map: "
                "their steps run side by side."
            )
        run = self.run
        call = run.around.adapted(call)
        place = run.enter(call)
        if not self._branches:
            run.journal.check_order(place)
        if place.row is not None and is_ended(place.row):
            if self._branches:
                self._last_end_at = later(self._last_end_at, place.row.ended_at)
            return run.value(call, place.row)
        if run.is_target(place):
            self._perform_target(call)
        if place.row is not None:
            self._in_place_s = 0.0
            run.wait_for(place.row)
            self._leave(Suspend())
        if run.target is not None:
            self._leave(Suspend())
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
            self._leave(Suspend())
        visit = run.begin(new, handled=self._failed_before if self._branches else None)
        self._failed_before = 0
        if visit is None:
            self._in_place_s = 0.0
            self._leave(Suspend())
        began = time.monotonic()
        result = perform.perform(run.rendered(visit), lambda context: perform_step(call, context, run.around))
        if self._branches:
            self._in_place_s -= run.spent_on(new, time.monotonic() - began)
        try:
            value = run.take(call, visit, result)
        except Unfinished as unfinished:
            run.awaited.append(unfinished.step_run_id)
            self._in_place_s = 0.0
            self._leave(Suspend())
        self._last_end_at = run.journal.now
        return value

    def _perform_target(self, call: Call) -> NoReturn:
        if self.run.only_finds:
            self._leave(TargetDone(call))
        try:
            value = perform_step(call, self.run.context, self.run.around, wakes=True)
        except BaseException as error:
            ending.raise_if_ending(error)
            done = TargetDone(error=error)
        else:
            done = TargetDone(value)
        self._leave(done)

    def parallel(self, branches: Sequence[Callable[[], Any]], *, return_exceptions: bool = False) -> list[Any]:
        """The values of all branches, each a function that may call step tools. None waits for another."""
        return self._all(branches, return_exceptions=return_exceptions, any_of=True)

    def map(self, calls: Sequence[Call], *, parallelism: int | None, return_exceptions: bool) -> list[Any]:
        """The values of all calls, at most `parallelism` of them at a time; none begins after one has failed."""

        def is_left_out(number: int) -> bool:
            journal, name = self.run.journal, calls[number].name
            if journal.has_next(name):
                return False
            journal.skip(name)
            return True

        return self._all(
            [lambda call=call: self.call(call) for call in calls],  # type: ignore[misc]
            return_exceptions=return_exceptions,
            any_of=parallelism is not None,
            most=parallelism,
            is_left_out=None if parallelism is None or return_exceptions else is_left_out,
        )

    def _all(
        self, branches: Sequence[Callable[[], Any]], *, return_exceptions: bool, any_of: bool, most: int | None = None,
        is_left_out: Callable[[int], bool] | None = None,
    ) -> list[Any]:  # fmt: skip
        self._check_stays()
        run = self.run
        self._gathers[run.branch] += 1
        gather = _Gather(path=f"{run.branch}/{self._gathers[run.branch]}", began_at=run.journal.now)
        was_any_of, run.any_of = run.any_of, run.any_of or any_of
        if not self._branches:
            is_small = most is None and len(branches) * IN_PLACE_S <= AWAY_S
            self._in_place_s = AWAY_S if is_small else 0.0
            self._failed_before, self._handled = len(run.failed), None
        self._branches += 1
        try:
            for number, branch in enumerate(branches):
                if is_left_out is not None and gather.failures and is_left_out(number):
                    continue
                self._go_through(branch, number, gather)
                if most is not None and gather.open_branches >= most:
                    break
        finally:
            self._branches -= 1
        if gather.failures and not return_exceptions:
            self._raise_failure(gather)
        if gather.open_branches:
            self._handled = self._failed_before
            self._leave(Suspend())
        run.any_of, run.journal.now = was_any_of, gather.ended_at
        return gather.values

    def _go_through(self, branch: Callable[[], Any], number: int, gather: _Gather) -> None:
        """Go through the code of a branch until it ends or has to wait."""
        run, new = self.run, len(self.run.new)
        before, self._last_end_at = self._last_end_at, None
        path, run.branch, run.journal.now = run.branch, f"{gather.path}.{number}", gather.began_at
        failure: Exception | None = None
        value = None
        try:
            value = branch()
        except Suspend:
            pass
        except (Nondeterminism, StepCallRefused):  # the code is wrong: its branches have nothing to go on with
            raise
        except Exception as error:
            failure = error
        finally:
            run.branch = path
        if run.leaving is not None and not isinstance(run.leaving, Suspend):
            raise run.leaving
        if run.leaving is not None:  # also where the code of the branch has hidden that
            run.leaving = None
            gather.open_branches += 1
            if len(run.new) > new:
                gather.begins_after.append(self._last_end_at)
        else:
            gather.values.append(value if failure is None else failure)
            if failure is not None:
                at = failure.at if isinstance(failure, StepFailed) else self._last_end_at
                gather.failures.append((at or gather.began_at, failure))
        gather.ended_at = max(gather.ended_at, run.journal.now)
        self._last_end_at = later(before, self._last_end_at)

    def _raise_failure(self, gather: _Gather) -> NoReturn:
        """Raise the failure that was first. Where steps are still to begin for which branches were ready before one was
        recorded, they begin first, as they would have if no worker had died."""
        run = self.run
        if run.new and gather.has_left_out():
            run.goes_on = True
            self._handled = self._failed_before
            self._leave(Suspend())
        self._handled = None
        at, failure = min(gather.failures, key=itemgetter(0))
        run.journal.now = max(gather.began_at, at)
        raise failure


@dataclass(kw_only=True)
class _Gather:
    """What has become of branches in this visit."""

    path: str
    began_at: dt.datetime
    ended_at: dt.datetime = field(init=False)
    values: list[Any] = field(default_factory=list)
    failures: list[tuple[dt.datetime, Exception]] = field(default_factory=list)
    """When they were recorded (of an exception of the code: when the step before it ended), and what they are."""
    open_branches: int = 0
    begins_after: list[dt.datetime | None] = field(default_factory=list)
    """Of branches with steps that are still to begin: when the latest step ended that they have asked for."""

    def __post_init__(self) -> None:
        self.ended_at = self.began_at

    def has_left_out(self) -> bool:
        """Whether a step is still to begin for which a branch was ready when a failure was recorded."""
        failed_at = max(at for at, _ in self.failures)
        return any(at is None or at < failed_at for at in self.begins_after)


def perform_step(call: Call, context: StepContext, around: Surroundings, *, wakes: bool = False) -> Any:
    """What the function of a step returns. `wakes`: its flow waits for it. Raises what that raises."""
    with performing(context):
        if call.is_atomic:
            return around.atomically(call, context, wakes=wakes)
        value = handler_of(call)(context)
        return around.result_of(value) if call.is_async else value
