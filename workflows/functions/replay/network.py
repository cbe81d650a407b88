"""No network while code is replayed: what a flow's code does outside of its steps must reach nobody."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from unittest import mock


class NetworkRefused(RuntimeError):
    """The code of a flow opens a connection outside of its steps: do that within step.run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(" ".join((NetworkRefused.__doc__ or "").split()))


def _refuse(*_: Any, **__: Any) -> Any:
    raise NetworkRefused


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """In here no Python code of this process opens a connection. (The driver of Postgres is none.)"""
    with contextlib.ExitStack() as stack:
        for name in ("connect", "connect_ex", "sendto"):
            stack.enter_context(mock.patch.object(socket.socket, name, _refuse))
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            stack.enter_context(mock.patch.object(socket, name, _refuse))
        yield
