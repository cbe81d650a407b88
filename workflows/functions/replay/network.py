"""No network while code is replayed: what a flow's code does outside of its steps must reach nobody."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any


class NetworkRefused(RuntimeError):
    """The code of a flow opens a connection outside of its steps: do that within step.run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(" ".join((NetworkRefused.__doc__ or "").split()))


_DOORS: tuple[tuple[Any, str], ...] = (
    (socket.socket, "connect"),
    (socket.socket, "connect_ex"),
    (socket.socket, "sendto"),
    (socket, "getaddrinfo"),
    (socket, "gethostbyname"),
    (socket, "create_connection"),
)


def _refuse(*_: Any, **__: Any) -> Any:
    raise NetworkRefused


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """In here no Python code of this process opens a connection. (The driver of Postgres is none.)"""
    before = [(owner, name, getattr(owner, name)) for owner, name in _DOORS]
    for owner, name, _ in before:
        setattr(owner, name, _refuse)
    try:
        yield
    finally:
        for owner, name, door in before:
            setattr(owner, name, door)
