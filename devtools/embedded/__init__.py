"""A private Postgres and Valkey from Python wheels, for development and tests (ADR 0002).

`use()` starts both under `var/` (or joins the ones that run there already), puts their addresses into the
environment, and keeps a shared lock; the last process that lets go of the lock stops them. A killed process
lets go as well, since the kernel drops its locks. Nothing outside `var/` is changed.

As root, Postgres needs another user: `nobody` where it can reach the files as they are, else a user namespace in
which root appears as `nobody` (so a private home directory stays private). Where neither is to be had, starting is
refused with a message.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from config import env
from devtools.embedded.postgres import postmaster_pid, start_postgres
from devtools.embedded.shared import CHILDREN, EmbeddedError, Paths, is_alive, terminate
from devtools.embedded.valkey import start_valkey, valkey_pid

__all__ = [
    "EmbeddedError",
    "Paths",
    "Services",
    "current",
    "is_alive",
    "make_private",
    "postmaster_pid",
    "revive",
    "start",
    "stop",
    "stop_if_unused",
    "use",
    "valkey_pid",
]


@dataclass(kw_only=True)
class Services:
    """The addresses in use and the lock that keeps the services alive."""

    database_url: str
    redis_url: str
    paths: Paths
    _lock: IO[str] = field(repr=False)

    def release(self) -> None:
        """Stop using the services. The last user stops them."""
        if not self._lock.closed:
            self._lock.close()
            stop_if_unused(self.paths)


_current: Services | None = None


@atexit.register
def _let_go() -> None:
    for child in CHILDREN:
        child.returncode = 0  # else Python complains at its end that they are still running


def use() -> Services | None:
    """Make DATABASE_URL and REDIS_URL available, starting the embedded services where they are not set.

    Returns None where both are set already (production): nothing is started then. Idempotent in a process.
    """
    global _current
    environment = env.read()
    if environment.database_url and environment.redis_url:
        return None
    if _current is None:
        _current = start(environment.var_dir)
        atexit.register(_release_at_exit, os.getpid())
    os.environ["DATABASE_URL"] = _current.database_url
    os.environ["REDIS_URL"] = _current.redis_url
    os.environ["HEADRACE_EMBEDDED"] = "1"
    os.environ.setdefault("HEADRACE_SECRET_KEY", _secret_key(environment.var_dir))
    return _current


def current() -> Services | None:
    """The embedded services that this process shares in."""
    return _current


def _release_at_exit(owner_pid: int) -> None:
    if _current is not None and os.getpid() == owner_pid:
        _current.release()


def _secret_key(var: Path) -> str:
    """The installation's secret key: made once, readable by its owner only."""
    path = var / "secret_key"
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def start(var: Path) -> Services:
    """Start (or join) the services of this var directory and hold a share in them."""
    paths = Paths(var=var)
    for directory in (paths.var, paths.valkey, paths.logs):
        directory.mkdir(parents=True, exist_ok=True)
    make_private(paths)
    lock = (paths.var / "services.lock").open("a")
    try:
        with _start_lock(paths):
            fcntl.flock(lock, fcntl.LOCK_SH)
            addresses = start_postgres(paths), start_valkey(paths)
    except BaseException:
        lock.close()
        raise
    return Services(database_url=addresses[0], redis_url=addresses[1], paths=paths, _lock=lock)


def make_private(paths: Paths) -> None:
    """Take logs, keys and the store's files from others. (Not `var` itself: Postgres' user enters it.)"""
    for directory in (paths.logs, paths.valkey):
        directory.chmod(0o700)
        for file in filter(Path.is_file, directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # rotated meanwhile
                file.chmod(0o600)


def revive(paths: Paths) -> list[str]:
    """Start again what has died. Returns the names of what was started; addresses stay the same."""
    died = []
    for child in CHILDREN:
        child.poll()  # a dead child counts as alive until it is waited for
    if not postmaster_pid(paths) or not valkey_pid(paths):
        with _start_lock(paths):
            if not postmaster_pid(paths):
                start_postgres(paths)
                died.append("Postgres")
            if not valkey_pid(paths):
                start_valkey(paths)
                died.append("Valkey")
    return died


@contextlib.contextmanager
def _start_lock(paths: Paths) -> Iterator[None]:
    """One starter or stopper at a time."""
    with (paths.var / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stop_if_unused(paths: Paths, *, first: Callable[[], object] | None = None) -> bool:
    """Stop both services where no process has a share in them; `first` is called before, in that case."""
    with _start_lock(paths), (paths.var / "services.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if first is not None:
            first()
        stop(paths)
    return True


def stop(paths: Paths) -> None:
    """Stop both services of this var directory; a service that does not run is no error."""
    postmaster = postmaster_pid(paths)
    if postmaster:
        terminate(postmaster, signal.SIGINT)  # SIGINT is Postgres' fast shutdown
    valkey = valkey_pid(paths)
    if valkey:
        terminate(valkey, signal.SIGTERM)
