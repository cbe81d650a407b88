"""Celery's command line for workers and beat, without what they never use: `python -m headrace -A config worker …`.

`celery` itself loads, for every one of its commands, an interactive shell and the commands of other packages (Flower,
with its web server): memory of each process that nobody asks for. Everything else is Celery's own; Flower is started
by `celery`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from celery.__main__ import main as celery

PLUGINS = "celery.commands"
SHELL = "click_repl"


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    """While Celery's command line is loaded: no commands of other packages, and no shell."""
    entry_points = importlib.metadata.entry_points

    def own_ones(**asked: Any) -> Any:
        return () if asked.get("group") == PLUGINS else entry_points(**asked)

    shell = ModuleType(SHELL)
    shell.register_repl = lambda group: None  # type: ignore[attr-defined]
    is_there = SHELL in sys.modules
    sys.modules.setdefault(SHELL, shell)
    importlib.metadata.entry_points = own_ones
    try:
        yield
    finally:
        importlib.metadata.entry_points = entry_points
        if not is_there:
            del sys.modules[SHELL]


def main() -> None:
    """Run a command of Celery. It ends by SystemExit."""
    with _lean():
        importlib.import_module("celery.bin.celery")
    celery()


if __name__ == "__main__":
    main()
