"""A process of a prefork pool that is being ended: the pool's signal handler raises SystemExit wherever its main thread
happens to be, in a handler or in the engine's own code. It is nobody's failure, and must end the process."""

from __future__ import annotations

import threading

from billiard.common import terminate_handler_fired


def raise_if_ending(error: BaseException) -> None:
    """Raises SystemExit where a signal ends this thread's process. A handler that raises it by itself ends nothing.

    After the signal any error is a consequence of it: what a handler's cleanup raises in place of SystemExit, say.
    """
    if terminate_handler_fired() and threading.current_thread() is threading.main_thread():
        if isinstance(error, SystemExit):
            raise error
        raise SystemExit(1) from error
