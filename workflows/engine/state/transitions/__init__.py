"""The only writer of a status: each change is one set-based, guarded statement; what follows from it is in its rows.

`steps` and `runs` have the changes of the pipeline, `containers` those of steps in containers, `rescue` those that make
good what was lost. `STEP_TRANSITIONS` and `RUN_TRANSITIONS` name every change that the statements make; the page
docs/reference/state_machine.md is generated from them.
"""

from __future__ import annotations

from typing import NamedTuple


class Transition(NamedTuple):
    """A change of status: `source` is empty for a new row."""

    verb: str
    source: str
    target: str


STEP_TRANSITIONS: tuple[Transition, ...] = (
    Transition("trigger", "", "pending"),
    Transition("trigger", "", "ready"),
    Transition("trigger (delayed)", "", "waiting"),
    Transition("needs met", "pending", "ready"),
    Transition("continue", "pending", "running"),
    Transition("claim", "ready", "running"),
    Transition("skip", "ready", "skipped"),
    Transition("skip", "running", "skipped"),
    Transition("complete", "running", "completed"),
    Transition("fail", "running", "failed"),
    Transition("retry", "running", "waiting"),
    Transition("sleep", "running", "waiting"),
    Transition("wait", "running", "waiting"),
    Transition("met", "waiting", "completed"),
    Transition("fork (item taken over)", "", "completed"),
    Transition("met", "waiting", "failed"),
    Transition("wake", "waiting", "ready"),
    Transition("fork (memoized)", "", "completed"),
    Transition("fork (memoized)", "", "failed"),
    Transition("fork (memoized)", "", "skipped"),
    Transition("undo", "", "ready"),
    Transition("function asks for a step", "", "ready"),
    Transition("function performs a step", "", "running"),
    Transition("hand back", "running", "ready"),
    Transition("hand back (later)", "running", "waiting"),
    Transition("rescue", "running", "ready"),
    Transition("cancel", "running", "cancelled"),
    Transition("cancel", "pending", "cancelled"),
    Transition("cancel", "ready", "cancelled"),
    Transition("cancel", "waiting", "cancelled"),
    Transition("import (ended before)", "", "completed"),
    Transition("import (ended before)", "", "failed"),
    Transition("import (ended before)", "", "skipped"),
    Transition("import (ended before)", "", "cancelled"),
)
RUN_TRANSITIONS: tuple[Transition, ...] = (
    Transition("trigger", "", "queued"),
    Transition("first claim", "queued", "running"),
    Transition("last sink recorded", "running", "completed"),
    Transition("all steps skipped", "queued", "completed"),
    Transition("critical step failed", "running", "failed"),
    Transition("output can't be rendered", "completed", "failed"),
    Transition("cancel", "queued", "cancelled"),
    Transition("cancel", "running", "cancelled"),
    Transition("import (ended before)", "", "completed"),
    Transition("import (ended before)", "", "failed"),
    Transition("import (ended before)", "", "cancelled"),
)
