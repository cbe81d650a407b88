"""What the tasks of an async flow are wrapped in."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any

from workflows.functions.calls import Call
from workflows.functions.failures import StepFailed
from workflows.functions.journal import Journal


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
        self._is_over = False

    @contextlib.asynccontextmanager
    async def begun(self, call: Call) -> AsyncIterator[None]:
        """While the next call is made. Raises CancelledError where it is not."""
        if self._places is None:
            yield
            return
        async with self._places:
            row = self._journal.next_row(call.name)
            if self._is_over or (self._has_failed and row is None):
                raise asyncio.CancelledError
            self._left.popleft()
            self._has_failed = not self._goes_on and (self._has_failed or (row is not None and row.status == "failed"))
            try:
                yield
            except StepFailed:
                if not self._goes_on:
                    self._end()
                raise

    def _end(self) -> None:
        self._is_over = True
        while self._left:
            self._journal.skip(self._left.popleft().name)
