"""What the threads of the watch ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from workflows.engine.celery_tasks.ends import ToldEnd
from workflows.engine.celery_tasks.sending import Sending


class Watched(Protocol):
    """A task that is watched."""

    @property
    def task(self) -> Sending: ...
    @property
    def since(self) -> float: ...
    @property
    def is_sent(self) -> bool: ...


class Watching(Protocol):
    """The watch of this process."""

    @property
    def is_stopping(self) -> bool: ...
    def wait(self, seconds: float) -> bool: ...
    def watches(self) -> Sequence[Watched]: ...
    def store(self, told: Sequence[ToldEnd]) -> None: ...
    def wake(self, task_ids: Iterable[str]) -> None: ...
