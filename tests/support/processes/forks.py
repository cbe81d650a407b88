"""Workers by fork: one process imports the application with an environment, and forks for each worker that has it.

A worker takes two seconds of a processor to import what it needs, and the tests start hundreds. What is forked is a
process as any other: it has a session, signals, logs and an exit code of its own, and had no thread, connection or
event loop before.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[3]
_MOST_BYTES = 100_000


class Forked:
    """A forked process, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, ending: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ending = ending

    def poll(self) -> int | None:
        """The exit code (of a signal, its negative number); None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._ending.settimeout(max(timeout, 0.001) if timeout is not None else None)
            try:
                said = self._ending.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0) from None
            self._ending.close()
            if not said:
                raise RuntimeError("The process that forks workers has ended.")
            self.returncode = int(said)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks. It ends with the one that has started it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.processes.forks", str(other.fileno())],
                env=dict(environment), cwd=ROOT, pass_fds=[other.fileno()], start_new_session=True,
            )  # fmt: skip

    def start(self, arguments: Sequence[str], log: IO[bytes]) -> Forked:
        """Start `python -m celery` with these arguments, in a session of its own."""
        ending, its_end = socket.socketpair()
        with its_end:
            message = "\0".join(arguments).encode()
            socket.send_fds(self._control, [message], [log.fileno(), its_end.fileno()])
        return Forked(int(ending.recv(16)), ending)

    def stop(self) -> None:
        """Stop it; workers that still run are not touched."""
        self._control.close()
        self._process.wait(10)


def main(descriptor: int) -> None:
    """Fork for each message; in the child, be Celery."""
    with socket.socket(fileno=descriptor) as control:
        import celery.bin.celery
        import celery.concurrency.thread
        import celery.worker.consumer  # noqa: F401
        import django

        from config.celery import app

        django.setup(set_prefix=False)
        app.finalize()
        app.loader.import_default_modules()
        gc.freeze()
        assert threading.active_count() == 1, threading.enumerate()
        arguments = _serve(control)
    if arguments is not None:
        sys.argv = ["celery", *arguments]
        from celery.__main__ import main as celery_main

        celery_main()


def _serve(control: socket.socket) -> list[str] | None:
    """Fork until the other end is closed. Returns in each child its arguments, and None in this process at the end."""
    ends: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 1024)
                _tell_of_ended(ends)
            if control in ready:
                message, files, _, _ = socket.recv_fds(control, _MOST_BYTES, 2)
                if not message:
                    return None
                log, ending = files
                pid = os.fork()
                if pid == 0:
                    break
                os.close(log)
                ends[pid] = socket.socket(fileno=ending)
                ends[pid].send(f"{pid:<16}".encode())
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    for file in (log, ending, woken, wake, *(each.detach() for each in ends.values())):
        os.close(file)
    return message.decode().split("\0")


def _tell_of_ended(ends: dict[int, socket.socket]) -> None:
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with ends.pop(pid) as end, contextlib.suppress(BrokenPipeError):
            end.send(str(os.waitstatus_to_exitcode(status)).encode())


_servers: dict[frozenset[tuple[str, str]], ForkServer | None] = {}


def start_celery(arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Forked | None:
    """Start Celery by fork; None for an environment that is seen for the first time, for which a server doesn't pay."""
    key = frozenset(environment.items())
    if key not in _servers:
        _servers[key] = None
        return None
    server = _servers[key] or ForkServer(environment)
    _servers[key] = server
    return server.start(arguments, log)


def stop_servers() -> None:
    """Stop the processes that fork, at the end of the tests."""
    for server in _servers.values():
        if server is not None:
            server.stop()
    _servers.clear()


if __name__ == "__main__":
    main(int(sys.argv[1]))
