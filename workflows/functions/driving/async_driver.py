"""Visits of async flows. The code runs on the worker's event loop until all that it waits for are steps; then the visit
performs the only new one itself, or a few quick ones, or has them dispatched, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from heapq import heappop, heappush
from typing import Any
from uuid import UUID

from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state.records import StepResult
from workflows.engine.state.transitions.calls import NewCall
from workflows.errors import StepCancelled
from workflows.functions.calls import Call, handler_of
from workflows.functions.driving.tasks import CodeTasks, Held, Limited, Open, Resumed, of_no_code, raise_failure_of
from workflows.functions.failures import StepCallRefused, StepFailed, Suspend, TargetDone, is_of_the_code
from workflows.functions.journal import LAST, JournalRow, Place
from workflows.functions.payloads import ReceivedEvent
from workflows.functions.surroundings import Surroundings
from workflows.functions.tools import Step
from workflows.functions.visits import AWAY_S, FunctionRun, Unfinished, is_ended, within
from workflows.steps.context import StepContext
from workflows.steps.outcome import Outcome

SETTLED_AFTER = 3
"""Turns of the loop without another call, after which the code is taken to wait."""
_passed: ContextVar[int] = ContextVar("passed", default=0)
"""How many failures of the visit a task of the code has seen by itself, or the one that created it."""
_last_end_at: ContextVar[dt.datetime | None] = ContextVar("last_end_at", default=None)
"""When the latest step ended whose value a task of the code has been given, or the one that created it."""


class AsyncDriver:
    """Drives one visit of an async flow."""

    is_async = True

    def __init__(self, run: FunctionRun) -> None:
        self.run = run
        self._open: list[Open] = []
        self._held: list[Held] = []
        """A heap: those that have ended first are first."""
        self._given_to: asyncio.Task[Any] | None = None
        """The task that was given the value of a step since the code last had nothing more to do."""
        self._tasks = CodeTasks()
        self._maps: dict[asyncio.Task[Any], object] = {}
        """Of tasks that make one call each: the map that they belong to."""
        self._calls = 0
        self._making = 0
        """How many of them are on their way to be open."""
        self._given_to_main = 0
        """How many failures the code had seen, with those of its branches, when its main task last went on."""
        self._changed = asyncio.Event()
        self._target: TargetDone | None = None
        self._is_at_target = False
        self._in_place_s = AWAY_S
        """Seconds that the visit may still spend on the steps that the code waits for together."""
        self._gone_on_after = 0
        """After how many failures the code has gone on: others are of branches, and still to be raised, or given."""

    async def drive(self) -> Outcome:
        """Run the code until it ends or has to wait."""
        self._tasks.watch()
        try:
            main = asyncio.ensure_future(self._code(self.run.event()))
            self._tasks.add(main)
            main.add_done_callback(lambda _: self._changed.set())
            return await self._follow(main)
        finally:
            await self._leave()
            await self._off_loop(self.run.close)

    async def _leave(self) -> None:
        """Leave the code, with all of its tasks. Their blocks of `finally` run, and whatever step they ask for leaves
        them once more."""
        self.run.leaving = self.run.leaving or self._target or Suspend()
        await self._tasks.cancel()

    async def _code(self, event: ReceivedEvent) -> Any:
        return await Resumed(self.run.flow.function(event, Step(self)), self._resumed)

    def _resumed(self) -> None:
        self._given_to_main = self.run.handled + len(self.run.failed)

    async def _follow(self, main: asyncio.Future[Any]) -> Outcome:
        """Go on with what the code asks for, until it ends or has to wait."""
        while True:
            await self._settle(main)
            if self._target is not None:
                raise self._target
            if self.run.leaving is not None:
                raise self.run.leaving
            if main.done():
                raise_failure_of(main)
                if self._held:  # of tasks that it does not wait for: the run does
                    self._give_next()
                    continue
                if any(not each.is_given_up for each in self._open):
                    return await self._suspended(any_of=False)
                return await self._completed(main.result())
            if not await self._go_on():
                return await self._suspended(any_of=True)

    async def _settle(self, main: asyncio.Future[Any]) -> None:
        """Wait until the code has ended, or waits for steps only; and its tasks, too."""
        while self._target is None and self.run.leaving is None:
            is_at_rest = self._open or self._held or main.done()
            if not is_at_rest or self._making or self._is_at_target:
                self._changed.clear()
                await self._changed.wait()
                continue
            before = self._calls
            await self._turns()
            if before == self._calls:
                return

    async def _turns(self) -> None:
        for _ in range(SETTLED_AFTER):
            await asyncio.sleep(0)

    async def _go_on(self) -> bool:
        """Give the code the value of the next step that has ended; or perform the only step that it waits for, or the
        first of a few quick ones, where this visit may. False where the visit ends."""
        self._given_to = None
        if self._held:
            if self._has_left_out(self._held[0].row):
                self.run.goes_on = True
                return False
            self._give_next()
            return True
        run, only = self.run, self._open[0]
        new = [each.new for each in self._open if each.new is not None]
        if only.new is None or len(new) < len(self._open) or run.target is not None:
            return False
        if any(each.value.done() for each in self._open):  # of a group that the code has cancelled
            return False
        if len(new) == 1:
            self._in_place_s = AWAY_S
        elif not run.is_quick(new, self._in_place_s):
            return False
        run.journal.check_new(Place(only.new.key, only.new.position, None))
        if not run.may_perform(only.new):
            return False
        visit = await self._off_loop(partial(run.begin, only.new, handled=self._handled()))
        if visit is None:
            only.new = None
            return False
        began = time.monotonic()
        result = await self._performed(only.call, visit)
        if len(new) > 1:
            self._in_place_s -= run.spent_on(only.new, time.monotonic() - began)
        try:
            value = await self._off_loop(_settled, run, only.call, visit, result)
        except Unfinished as unfinished:
            run.awaited.append(unfinished.step_run_id)
            only.new = None
            return False
        if isinstance(value, StepFailed) and len(new) > 1:  # it is raised once the others have begun, as ever
            run.awaited.append(visit.claim.id)
            only.new = None
            return False
        self._open.remove(only)
        self._calls += 1
        if only.value.done():  # cancelled meanwhile
            return True
        if isinstance(value, StepFailed):
            only.value.set_exception(value)
        else:
            only.value.set_result(value)
        return True

    def _has_left_out(self, row: JournalRow) -> bool:
        """Whether this is a failure, and a step is still to begin for which the code was ready when it was recorded: it
        begins first, as it would have if no worker had died."""
        if row.status != "failed" or self.run.target is not None or self.run.journal.is_replaying:
            return False
        failed_at = row.ended_at or LAST
        return any(each.new is not None and (each.after is None or each.after < failed_at) for each in self._open)

    def _give_next(self) -> None:
        """Give the code the value that is next. With it those of the same map: nobody sees one before all are there."""
        held = self._held
        first = heappop(held)
        self._give(first)
        if first.map_ is not None and first.row.status != "failed":
            while held and held[0].map_ is first.map_ and held[0].row.status != "failed":
                self._give(heappop(held))

    def _give(self, held: Held) -> None:
        self.run.journal.ends.give(held.row)
        self._calls += 1
        self._given_to = held.task
        if not held.turn.done():  # cancelled meanwhile
            held.turn.set_result(None)

    async def _performed(self, call: Call, visit: Visit) -> StepResult:
        rendered = self.run.rendered(visit)
        if call.is_async:
            with of_no_code():
                task = asyncio.ensure_future(perform.perform_async(rendered, within(handler_of(call))))
            visit.task = task
            return await task
        result: StepResult = await self.run.around.in_thread(perform.perform, rendered, within(handler_of(call)))
        return result

    async def _completed(self, value: Any) -> Outcome:
        outcome: Outcome = await self._off_loop(self.run.completed, value)
        return outcome

    async def _suspended(self, *, any_of: bool) -> Outcome:
        run = self.run
        run.new = [each.new for each in self._open if each.new is not None]
        if not any_of:  # what the code has given up may end or not
            given_up = {each.row.id for each in self._open if each.row is not None and each.is_given_up}
            run.awaited = [step_run_id for step_run_id in run.awaited if step_run_id not in given_up]
        run.any_of = any_of and len(self._open) > 1
        outcome: Outcome = await self._off_loop(run.suspended, self._handled())
        return outcome

    def _handled(self) -> int:
        """After how many of the failures in `run.failed` the code has gone on."""
        return max(0, self._gone_on_after - self.run.handled)

    async def _off_loop(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call the engine in a thread: the loop does not wait for Postgres."""
        return await self.run.around.off_loop(work, *args)

    async def call(self, call: Call) -> Any:
        """The value of a step; waits for ever where the visit has to end first. Raises StepFailed."""
        if self.run.leaving is not None:
            raise asyncio.CancelledError
        try:
            return await self._called(call)
        except (Exception, StepCancelled) as error:
            if not is_of_the_code(error):
                self.run.leaving = error
                self._changed.set()
            raise

    async def _called(self, call: Call) -> Any:
        run = self.run
        call = run.around.adapted(call)
        if call.is_atomic:
            raise StepCallRefused(f"step.atomic({call.name!r}): a transaction belongs to a sync flow.")
        self._gone_on_after = max(self._gone_on_after, self._given_to_main, _passed.get())
        place = run.enter(call)
        self._calls += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        if place.row is not None and is_ended(place.row):
            return await self._value(call, place.row, task)
        if run.is_target(place):
            await self._perform_target(call)
        future = asyncio.get_running_loop().create_future()
        opened = Open(call=call, new=None, row=place.row, value=future, after=_last_end_at.get())
        if place.row is not None:
            run.wait_for(place.row)
        elif run.target is None:
            opened.new = await self._make_new(call, place)
        self._open.append(opened)
        self._changed.set()
        with self._noted(opened.new.id if opened.new is not None else None):
            value = await opened.value
            _last_end_at.set(run.journal.now)
            return value

    async def _value(self, call: Call, row: JournalRow, task: asyncio.Task[Any] | None) -> Any:
        """The value of a step that has ended, once it is its turn, in the order in which steps have ended. It is at
        once where that follows from the value before; a failure is not, since others may have to begin before."""
        ends, has_failed = self.run.journal.ends, row.status == "failed"
        if not has_failed and (self._given_to is None or self._given_to is task) and ends.give_next(row):
            self._given_to = task
            if self._tasks.has_new():  # they begin here, as they did when the code had to wait for this value
                await asyncio.sleep(0)
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            map_ = None if task is None else self._maps.get(task)
            heappush(self._held, Held(number=ends.number(row), row=row, task=task, map_=map_, turn=turn))
            self._changed.set()
            await turn
        _last_end_at.set(row.ended_at)
        if not has_failed:
            return self.run.value(call, row)
        with self._noted(row.id):
            return self.run.value(call, row)

    @contextlib.contextmanager
    def _noted(self, step_run_id: UUID | None) -> Iterator[None]:
        """Note in the current task, for itself and those that it will create, that it has seen a step fail."""
        try:
            yield
        except StepFailed:
            if step_run_id in self.run.failed:
                number = self.run.handled + self.run.failed.index(step_run_id)
                if number <= max(_passed.get(), self._given_to_main):
                    _passed.set(number + 1)
            raise

    async def _make_new(self, call: Call, place: Place) -> NewCall:
        """A step that is not in the journal. Until it is made, the code does not wait for steps only."""
        self._making += 1
        try:
            new: NewCall = await self._off_loop(self.run.make_new, call, place)
            return new
        finally:
            self._making -= 1
            self._changed.set()

    async def just(self, value: Any) -> Any:
        """The value itself, as a call would give it."""
        return value

    async def _perform_target(self, call: Call) -> None:
        self._is_at_target = True
        try:
            with of_no_code():
                value = await perform_step(call, self.run.context, self.run.around)
            self._target = TargetDone(value)
        except BaseException as error:
            if self.run.leaving is not None:
                raise
            self._target = TargetDone(error=error)
        self._changed.set()
        await asyncio.get_running_loop().create_future()

    async def parallel(self, branches: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
        """The values of all branches: coroutines, or functions that give some."""
        return await asyncio.gather(
            *(branch() if callable(branch) else branch for branch in branches), return_exceptions=return_exceptions
        )

    async def map(self, calls: Sequence[Call], *, parallelism: int | None, return_exceptions: bool) -> list[Any]:
        """The values of all calls, at most `parallelism` of them at a time."""
        limited = Limited(calls, self.run.journal, most=parallelism, goes_on=return_exceptions)

        async def one(call: Call) -> Any:
            async with limited.begun(call):
                return await self.call(call)

        map_, items = object(), [asyncio.ensure_future(one(call)) for call in calls]
        self._maps.update(dict.fromkeys(items, map_))
        for item in items:
            self._tasks.add(item)
        return await asyncio.gather(*items, return_exceptions=return_exceptions)


def _settled(run: FunctionRun, call: Call, visit: Visit, result: StepResult) -> Any:
    """The value of a step that was performed, or its failure. Raises Unfinished."""
    try:
        return run.take(call, visit, result)
    except StepFailed as failure:
        return failure


async def perform_step(call: Call, context: StepContext, around: Surroundings) -> Any:
    """What the function of a step returns. Raises what that raises."""
    handler = within(handler_of(call))
    return await (handler(context) if call.is_async else around.in_thread(handler, context))
