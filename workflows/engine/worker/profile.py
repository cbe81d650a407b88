"""What a worker process is, and how much it may hold: the facts that the parts of its runtime share."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

MAX_CONTINUED = 50


def _process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class WorkerProfile:
    """One worker process. Made after a fork, never before: its id and its name are the process's own."""

    name: str
    """The name of the Celery worker; several processes may share it."""
    queues: frozenset[str]
    slots: int
    """How many steps execute at once."""
    threads: int
    """The size of the pool of blocking handlers."""
    runs_in_task_thread: bool
    """Blocking handlers run in the visiting thread (prefork children), except detached ones."""
    lanes: Mapping[str, int]
    """How many permits this process adds to each lane."""
    max_continued: int = MAX_CONTINUED
    """With how many steps it goes on after recording a group."""
    id: UUID = field(default_factory=uuid4)
    process: str = field(default_factory=_process_name)

    @property
    def full_name(self) -> str:
        """The name under which the process is reported: worker, machine and process id."""
        return f"{self.name}@{self.process}"
