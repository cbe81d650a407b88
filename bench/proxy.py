"""A TCP proxy that adds a delay to each round trip, and counts them.

`python bench/proxy.py TARGET [DELAY_MS]` prints its port, and then a number for each line that it reads: the round
trips so far. TARGET is `host:port`, or the path of a Unix socket. A round trip is what a client sends after an answer:
however many packets, and however many statements or commands in a pipeline.

A thread for each direction of a connection: an event loop's timers are no finer than a millisecond.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import time

SIZE = 1 << 18


class Proxy:
    """One target. `turns` counts round trips of all connections."""

    def __init__(self, target: str, delay_s: float = 0.0) -> None:
        self._target, self._delay_s = target, delay_s
        self._numbers = itertools.count(1)
        self.turns = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = _connection(self._target)
        except OSError:
            client.close()
            return
        for end in (client, server):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answered = threading.Event()
        answered.set()
        threading.Thread(target=self._pass_back, args=(server, client, answered), daemon=True).start()
        self._pass_on(client, server, answered)

    def _pass_on(self, client: socket.socket, server: socket.socket, answered: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(SIZE):
                if answered.is_set():
                    answered.clear()
                    self.turns = next(self._numbers)
                    if self._delay_s:
                        time.sleep(self._delay_s)
                server.sendall(data)
        _close(server, client)

    def _pass_back(self, server: socket.socket, client: socket.socket, answered: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(SIZE):
                answered.set()
                client.sendall(data)
        _close(client, server)


def _connection(target: str) -> socket.socket:
    if target.startswith("/"):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(target)
        return server
    host, _, port = target.rpartition(":")
    return socket.create_connection((host, int(port)))


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def main() -> None:
    proxy = Proxy(sys.argv[1], float(sys.argv[2]) / 1e3 if len(sys.argv) > 2 else 0.0)
    print(proxy.port, flush=True)
    for _ in sys.stdin:
        print(proxy.turns, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
