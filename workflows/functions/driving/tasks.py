"""The calls and the tasks of an async flow, as its driver keeps them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from workflows.engine.state.transitions.calls import NewCall
from workflows.functions.calls import Call
from workflows.functions.failures import StepFailed
from workflows.functions.journal import LAST, Journal, JournalRow

log = structlog.get_logger(__name__)
END_WITHIN_S = 5.0


@dataclass(kw_only=True)
class Open:
    """A call that the code waits for. `row`: it is in the journal, `new`: not yet; `after`: when the latest step ended
    that its task knew of."""

    call: Call
    new: NewCall | None
    row: JournalRow | None
    value: asyncio.Future[Any]
    after: dt.datetime | None

    @property
    def is_given_up(self) -> bool:
        """Whether the code has cancelled what waits for a step that has begun."""
        return self.row is not None and self.value.cancelled()


@dataclass(kw_only=True, order=True)
class Held:
    """A call of a step that has ended, whose value the code is given when it is its turn."""

    number: int
    row: JournalRow = field(compare=False)
    task: asyncio.Task[Any] | None = field(compare=False)
    map_: object | None = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)


class Resumed:
    """Awaits the code, and calls a function each time before that goes on."""

    def __init__(self, code: Awaitable[Any], resumed: Callable[[], None]) -> None:
        self._code = code
        self._resumed = resumed

    def __await__(self) -> Generator[Any, Any, Any]:
        code = self._code.__await__()
        go_on: Callable[[], Any] = partial(next, code)
        while True:
            self._resumed()
            try:
                awaited = go_on()
            except StopIteration as end:
                return end.value
            try:
                yield awaited
            except GeneratorExit:
                code.close()
                raise
            except BaseException as error:
                go_on = partial(code.throw, error)
            else:
                go_on = partial(next, code)


class Limited:
    """The calls of a map, of which at most so many are made at a time; then none after one has failed, unless it
    `goes_on`."""

    def __init__(self, calls: Sequence[Call], journal: Journal, *, most: int | None, goes_on: bool) -> None:
        self._left = deque(calls)
        self._journal = journal
        self._places = None if most is None else asyncio.Semaphore(most)
        self._goes_on = goes_on or most is None
        self._has_failed = False
        self._over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def begun(self, call: Call) -> AsyncIterator[None]:
        """While the next call is made. Raises CancelledError where it is not."""
        if self._places is None:
            yield
            return
        async with self._places:
            row = self._journal.next_row(call.name)
            if self._over.is_set() or (self._has_failed and row is None):
                await self._over.wait()  # the map raises the failure first
                raise asyncio.CancelledError
            self._left.popleft()
            self._has_failed = not self._goes_on and (self._has_failed or (row is not None and row.status == "failed"))
            try:
                yield
            except Exception:
                if not self._goes_on:
                    self._end()
                raise

    def _end(self) -> None:
        self._over.set()
        while self._left:
            self._journal.skip(self._left.popleft().name)


class CodeTasks:
    """The tasks of the code in this visit, that have not ended: those that it has created, and theirs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_new = False
        self._sees_all = True

    def watch(self) -> None:
        """Know of the tasks that this one creates from now on, and of those that they create."""
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            loop.set_task_factory(_known)
        self._sees_all = loop.get_task_factory() is _known
        _of_code.set(self)

    def add(self, task: asyncio.Task[Any]) -> None:
        if task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._has_new = True

    def has_new(self) -> bool:
        """Whether there are some since the last look. True where another library makes the tasks of the loop."""
        found, self._has_new = self._has_new or not self._sees_all, False
        return found

    async def cancel(self) -> None:
        """Cancel all, and wait until they have ended; for some seconds, where one does not obey."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        ended, running = await asyncio.wait(tasks, timeout=END_WITHIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # nobody else asks what it has raised
        if running:
            log.warning("tasks of a flow's code go on after its visit: they catch CancelledError", tasks=len(running))


@contextlib.contextmanager
def of_no_code() -> Iterator[None]:
    """What is created within is not the code's: the function of a step may open what outlives the visit."""
    token = _of_code.set(None)
    try:
        yield
    finally:
        _of_code.reset(token)


_of_code: ContextVar[CodeTasks | None] = ContextVar("of_code", default=None)


def _known(loop: asyncio.AbstractEventLoop, code: Any, **given: Any) -> asyncio.Task[Any]:
    """A factory of tasks that tells the visit of those of its code."""
    task = asyncio.Task(code, loop=loop, **given)
    of_code = _of_code.get()
    if of_code is not None:
        of_code.add(task)
    return task


def raise_failure_of(main: asyncio.Future[Any]) -> None:
    """Raise what the code has raised. Of a group of failures of steps, as a TaskGroup raises it, the first one by time:
    the run's dead letter is that of the step."""
    try:
        main.result()
    except ExceptionGroup as group:
        failures, others = group.split(StepFailed)
        if failures is None or others is not None:
            raise
        raise min(_leaves(failures), key=lambda failure: failure.at or LAST) from group


def _leaves(group: ExceptionGroup[StepFailed]) -> Iterator[StepFailed]:
    for each in group.exceptions:
        if isinstance(each, ExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
