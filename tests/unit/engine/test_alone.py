"""A step that is performed alone tells its worker by when it has to end; the worker ends its process then."""

from __future__ import annotations

import math
import time
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

from workflows.engine.worker.alone import solitary
from workflows.engine.worker.alone.solitary import SolitaryProcess


def test_a_deadline_of_a_step_reaches_its_worker() -> None:
    ours, theirs = Pipe()
    inner: Any = SimpleNamespace(due_at=math.inf)
    due_at = time.monotonic() + 500
    theirs.send(("began", None))
    theirs.send(("rendered", None))
    solitary._end_by(inner, theirs, due_at)
    theirs.send(("result", "its result"))
    process, told = object.__new__(SolitaryProcess), list[float]()
    claim: Any = "a claim"
    process._connection = ours  # type: ignore[assignment]
    result: Any = process.perform(claim, print, lambda: True, told.append)
    assert (result, inner.due_at) == ("its result", due_at)
    assert [due_at <= each <= due_at + 100 for each in told] == [True]
