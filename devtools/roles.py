"""The parent of `up`'s processes: it imports the application once, and forks each of them from that (ADR 21).

At a fork it holds nothing that two processes must not share: no second thread, no socket, no event loop, no pool. It
starts again what exits, with back-off, and writes that into its log in supervisor's words, which `up` passes on. The
supervisor keeps this one program. Where something of the application starts a thread at its import, processes are
started anew instead of forked: heavier, and the same in all else.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devtools.marks import marked

MARK = "HEADRACE_GROUP"
ROOM = "-" * 500
"""The last argument of the parent's command line: the room in which each process writes its own."""
PRELOADED = (
    "celery.apps.beat", "celery.apps.worker", "celery.bin.celery", "celery.concurrency.prefork",
    "celery.concurrency.thread", "celery.fixups.django", "celery.worker.consumer", "config.celery", "config.urls",
    "django.contrib.sessions.backends.db", "django_celery_beat.schedulers", "django_celery_results.backends",
    "jsonschema_rs", "kombu.transport.redis", "psycopg_pool", "pydantic_monty", "uvicorn.main", "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop", "workflows.api.door", "workflows.api.edge.handler", "workflows.api.edge.http_protocol",
    "workflows.api.streams.front", "workflows.engine.worker.bootstep",
)  # fmt: skip
LIVED_S = 2.0
"""One that has lived for so long is started again at once."""
LONGEST_PAUSE_S = 10.0
LOOK_AT_LOGS_S = 5.0
MAX_LOG_BYTES = 20 * 1024 * 1024
LOG_BACKUPS = 2
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


@dataclass(frozen=True, kw_only=True)
class Role:
    """A process of the group. `command`: its arguments, the first one `-m` and a module, or a file. `holds_port`: it is
    killed when its parent dies, so that the next one finds its port free; others may finish what they do."""

    name: str
    command: tuple[str, ...]
    stop_signal: int = signal.SIGTERM
    holds_port: bool = False


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What `up` tells the parent, by a file."""

    roles: tuple[Role, ...]
    logs: str
    pid_file: str
    stop_within_s: float

    def write(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Configuration:
        told: dict[str, Any] = json.loads(path.read_text())
        roles = tuple(Role(**{**role, "command": tuple(role["command"])}) for role in told.pop("roles"))
        return cls(roles=roles, **told)


def preload() -> None:
    """Import what the processes need, and put it out of the garbage collector's sight, so that it stays shared."""
    gc.disable()
    import django  # noqa: PLC0415  (the command line is changed before)

    django.setup(set_prefix=False)
    gc.disable()
    for name in PRELOADED:
        importlib.import_module(name)
    from config.celery import app  # noqa: PLC0415

    app.loader.import_default_modules()
    app.finalize()
    gc.collect()
    gc.freeze()


def not_to_be_shared() -> list[str]:
    """What this process holds that a fork of it must not have too: threads, sockets, and what event loops use."""
    threads = len(os.listdir("/proc/self/task")) - 1  # noqa: PTH208
    found = [f"{threads} more threads"] if threads else []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(entry)  # noqa: PTH115
            if target.startswith(("socket:", "anon_inode:")):
                found.append(target)
    return found


@dataclass(kw_only=True)
class _State:
    pid: int | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0


class Parent:
    """Starts the processes, and starts them again, until it is told to stop."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._logs = Path(configuration.logs)
        self._states = {role: _State() for role in configuration.roles}
        self._stopping = False
        self._kill_at = float("inf")
        self._logs_due = 0.0
        self._log = (self._logs / "roles.log").open("a", buffering=1)
        mark = os.environ.get(MARK, "")
        self._leftovers = {pid for pid in marked(MARK, mark) if pid != os.getppid()} if mark else set()
        self._leftovers_until = time.monotonic() + configuration.stop_within_s

    def run(self) -> Role | None:
        """Keep the processes until SIGTERM. Returns in each of them too, with its role; None in the parent."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            now = time.monotonic()
            for role, state in self._states.items():
                if state.pid is None and state.due <= now and not self._stopping and self._start(role, state):
                    return role
            if self._stopping and all(state.pid is None for state in self._states.values()):
                return None
            got = signal.sigtimedwait(_SIGNALS, self._pause_s())
            if got is not None and got.si_signo != signal.SIGCHLD and not self._stopping:
                self._stop()
            self._reap()
            self._look()

    def _pause_s(self) -> float:
        now = time.monotonic()
        waiting = [state.due for state in self._states.values() if state.pid is None and not self._stopping]
        return max(0.0, min([*waiting, self._logs_due, self._kill_at]) - now)

    def _start(self, role: Role, state: _State) -> bool:
        """Fork; true in the child."""
        shared = not_to_be_shared()
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            self._log.close()
            _become(role, self._logs / f"{role.name}.log", parent, anew=shared)
            return True
        state.pid, state.started = pid, time.monotonic()
        if shared:
            self._say("WARN", f"not forked: {role.name}, since the parent holds {', '.join(shared)}")
        self._say("INFO", f"spawned: '{role.name}' with pid {pid}")
        return False

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for role, state in self._states.items():
                if state.pid == pid:
                    self._note_exit(role, state, os.waitstatus_to_exitcode(status))

    def _note_exit(self, role: Role, state: _State, code: int) -> None:
        now = time.monotonic()
        how = f"terminated by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._say("INFO" if self._stopping else "WARN", f"exited: {role.name} ({how})")
        state.failures = 0 if now - state.started > LIVED_S else state.failures + 1
        state.pid, state.due = None, now + min(float(state.failures), LONGEST_PAUSE_S)

    def _stop(self) -> None:
        self._stopping = True
        self._kill_at = time.monotonic() + self._configuration.stop_within_s
        for role, state in self._states.items():
            if state.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(state.pid, role.stop_signal)

    def _look(self) -> None:
        """Do what is due now and then: kill what does not stop, and what an earlier parent left; keep logs short."""
        now = time.monotonic()
        if now >= self._kill_at:
            self._kill_at = now + 1.0
            for state in self._states.values():
                if state.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(state.pid, signal.SIGKILL)
        if now >= self._logs_due:
            self._logs_due = now + LOOK_AT_LOGS_S
            for name in ("roles", *(role.name for role in self._states)):
                shorten(self._logs / f"{name}.log")
            if self._leftovers and now > self._leftovers_until:
                for pid in self._leftovers.intersection(marked(MARK, os.environ[MARK])):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._leftovers = set()

    def _say(self, level: str, what: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level} {what}\n")


def shorten(log: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Begin a log anew that has become too long, keeping copies: its writer appends, and goes on at the new end."""
    try:
        if log.stat().st_size <= max_bytes:
            return
        for number in range(LOG_BACKUPS - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
    except OSError:
        return  # the next look tries again


def _become(role: Role, log: Path, parent: int, *, anew: Sequence[str]) -> None:
    """In the child, at once: its session, its output, its name, its signals."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if role.holds_port else role.stop_signal)
    if os.getppid() != parent:
        os._exit(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if anew:
        os.execv(sys.executable, [sys.executable, *role.command])  # noqa: S606  (our own commands)
    set_title([sys.executable, *role.command], name=role.name)


def perform(role: Role) -> None:
    """Be the role, as `python` with its command would be. It ends as that would: by SystemExit, or by an error."""
    gc.enable()
    by_module = role.command[0] == "-m"
    target, arguments = role.command[by_module], role.command[by_module + 1 :]
    sys.argv = [target, *arguments]
    from config.celery import fit_to_command_line  # noqa: PLC0415  (it was imported before there was one)

    fit_to_command_line()
    if by_module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")


def set_title(arguments: Iterable[str], *, name: str) -> None:
    """Write a command line over this process's own, as `ps` and `pkill -f` read it. (A fork has its parent's.)"""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15])
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        room = end - start
        text = "\0".join(arguments).encode()[: room - 1]
        ctypes.memmove(start, text.ljust(room, b"\0"), room)


def main(path: Path) -> None:
    """The program: `python -m devtools.roles <configuration> <room>`."""
    set_title([sys.executable, "-m", "devtools.roles", str(path)], name="roles")
    configuration = Configuration.read(path)
    Path(configuration.pid_file).write_text(str(os.getpid()))
    preload()
    role = Parent(configuration).run()
    if role is not None:
        perform(role)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
