"""The readers of streams notice that the server has died, and end all the same."""

from __future__ import annotations

import socket

import pytest

from bench.live.streams import Readers
from tests.support.workers import await_that


def test_a_stream_that_breaks_off_is_told_and_keeps_nobody() -> None:
    readers = Readers(0)
    servers = []
    for _ in range(2):
        server, client = socket.socketpair()
        servers.append(server)
        readers.add(client)
    readers.start()
    servers[0].sendall(b"event: run-status\n")
    await_that(lambda: readers.ends == 1, 10)
    readers.check()
    servers[0].close()
    await_that(lambda: not readers._reading.is_alive(), 10)
    with pytest.raises(RuntimeError, match="a stream broke off"):
        readers.check()
    readers.close()
    servers[1].close()
