"""Threads that a process of the engine can't do without: where one dies, the process ends, and is started anew.

A worker whose leader, heartbeat or recorder is gone looks alive and does its work no more. Supervisor, systemd or the
container's restart policy start the process again; the pool replaces a compute child.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)
EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


def start(name: str, work: Callable[[], object]) -> threading.Thread:
    """The thread, started. Where `work` raises, whatever it raises, the reason is logged and the process ends."""
    thread = threading.Thread(target=_watched, args=(name, work), name=name, daemon=True)
    thread.start()
    return thread


def _watched(name: str, work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException as error:
        try:
            log.critical(
                "an engine thread has died: the process ends, to be started anew",
                thread=name, error=f"{type(error).__name__}: {error}", exc_info=error,
            )  # fmt: skip
            logging.shutdown()
        finally:
            os._exit(EXIT_CODE)
