"""The process group of `up`: web, two workers, beat, Flower and the examples' server, forked from one parent.

The parent (`devtools.roles`) starts again what dies, with back-off, and supervisor starts the parent again; their words
about that are passed on to the terminal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from config.env import BASE_DIR
from devtools import embedded
from devtools.marks import kill_marked
from devtools.roles import MARK, ROOM, Configuration, Role

_PR_SET_PDEATHSIG = 1
MARK_FILE = "group"
STOP_WITHIN_S = 14
_QUIET = "--without-gossip --without-mingle --heartbeat-interval 5"
_KILLED_AT_ONCE = {"flower", "examples"}  # they keep nothing, and Flower takes long over SIGTERM
_HOLD_PORTS = {"web", "flower", "examples"}
_EVENT = re.compile(r"(?:INFO|WARN|CRIT) (exited: .*|spawned: .*|gave up: .*)")


class StartError(RuntimeError):
    """The processes can't be started."""


class Ports:
    """Web, Flower and the examples' server: three ports in a row."""

    def __init__(self, first: int) -> None:
        self.web, self.flower, self.examples = first, first + 1, first + 2

    def check_free(self) -> None:
        """Raises StartError naming the first port that is taken."""
        for port in (self.web, self.flower, self.examples):
            if port > 65535:
                raise StartError(f"PORT={self.web} leaves no room for the two ports after it; use 65533 at most.")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise StartError(
                        f"Port {port} is taken. Stop what listens there, or start with another one: PORT=8300 make up "
                        f"(it uses three ports in a row)."
                    ) from None

    @classmethod
    def any_free(cls) -> Ports:
        """Three free ports in a row."""
        for first in random.sample(range(20_000, 30_000), 100):
            ports = cls(first)
            with contextlib.suppress(StartError):
                ports.check_free()
                return ports
        raise StartError("There are no three free ports in a row on 127.0.0.1.")


def commands(ports: Ports) -> dict[str, str]:
    """Name → command line of every process."""
    python = shlex.quote(sys.executable)
    celery = f"{python} -m celery -A config"
    # uvicorn believes programs of this machine what they say of their address: with it they would pass the login brake
    believes = "" if os.environ.get("FORWARDED_ALLOW_IPS") else " --no-proxy-headers"
    return {
        "web": f"{python} -m uvicorn config.asgi:application --host 127.0.0.1 --port {ports.web} --lifespan off"
        " --loop uvloop --http workflows.api.edge.http_protocol:BoundedHttp --no-access-log --log-level warning"
        f" --timeout-graceful-shutdown 3{believes}",  # streams never end
        "worker-io": f"{celery} worker -P threads -c 4 -Q headrace.io,headrace.tasks -n io@%h -l INFO {_QUIET}",
        "worker-compute": f"{celery} worker -P prefork -c 2 -Q headrace.compute -n compute@%h -l INFO {_QUIET}",
        "beat": f"{celery} beat -l INFO --pidfile= --max-interval 5",
        "flower": f"{celery} flower --address=127.0.0.1 --port={ports.flower} --logging=warning",
        "examples": f"{python} {shlex.quote(str(BASE_DIR / 'examples' / 'server.py'))} {ports.examples}",
    }


class ProcessGroup:
    """All processes, from `start` to `stop`. Killing this process takes them along."""

    def __init__(self, var: Path, ports: Ports, basic_auth: str, say: Callable[[str], None]) -> None:
        self.var, self.ports, self.say = var, ports, say
        self._configuration = var / "supervisord.conf"
        self._basic_auth = basic_auth
        self._write(commands(ports))
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._started: set[str] = set()
        self._stopping = False
        self._mark = secrets.token_hex(8)
        self._log_starts: dict[Path, int] = {}
        for log in (var / "log" / "supervisord.log", var / "log" / "roles.log"):
            log.touch(mode=0o600)
            self._log_starts[log] = log.stat().st_size

    def _write(self, programs: dict[str, str]) -> None:
        logs = self.var / "log"
        logs.mkdir(parents=True, exist_ok=True)
        user = "user=root\n" if os.geteuid() == 0 else ""
        text = (
            f"[supervisord]\nnodaemon=true\nsilent=true\numask=077\nlogfile={logs}/supervisord.log\npidfile={self.var}/supervisord.pid\n"
            f"loglevel=info\nchildlogdir={logs}\n{user}"
        )
        roles = self.var / "roles.json"
        command = shlex.join([sys.executable, "-m", "devtools.roles", str(roles), ROOM]).replace("%", "%%")
        text += (
            f"\n[program:roles]\ncommand={command}\ndirectory={BASE_DIR}\nautorestart=true\nstartsecs=2\n"
            f"startretries=1000000\nstopwaitsecs={STOP_WITHIN_S - 2}\n"
            f"redirect_stderr=true\nstdout_logfile={logs}/parent.log\n"
            f"stdout_logfile_maxbytes=20MB\nstdout_logfile_backups=2\n"
        )
        Configuration(
            roles=tuple(_role(name, command) for name, command in programs.items()),
            logs=str(logs),
            pid_file=str(self.var / "roles.pid"),
            stop_within_s=STOP_WITHIN_S - 3,
        ).write(roles)
        self._configuration.touch(mode=0o600)
        self._configuration.chmod(0o600)
        self._configuration.write_text(text)

    def start(self) -> None:
        """Start the supervisor; raises StartError where the web does not become ready within a minute."""
        (self.var / MARK_FILE).write_text(self._mark)
        library = ctypes.CDLL(None)
        environment = {
            "HEADRACE_DRAIN_S": "8",
            "HEADRACE_ALLOWED_PRIVATE_HOSTS": f"127.0.0.1:{self.ports.examples}",
            "HEADRACE_FLOWER_URL": f"http://127.0.0.1:{self.ports.flower}",
            **os.environ,
            MARK: self._mark,
            "FLOWER_BASIC_AUTH": self._basic_auth,  # not on the command line, where everybody can read it
            "FLOWER_UNAUTHENTICATED_API": "false",
        }
        self._supervisor = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", self._configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=BASE_DIR,
            env=environment,
            start_new_session=True,
            umask=0o077,  # logs and what the processes write: for nobody else
            preexec_fn=lambda: library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        threading.Thread(target=self._pass_on, daemon=True).start()
        self._await_ready()

    def _pass_on(self) -> None:
        """Tell the terminal when a process died and came back.

        From the log, not through a pipe: a supervisor whose reader was killed would die of its next word, and leave the
        processes behind.
        """
        with contextlib.ExitStack() as files:
            logs = [files.enter_context(path.open()) for path in self._log_starts]
            for log, start in zip(logs, self._log_starts.values(), strict=True):
                log.seek(start)
            while not self._stopping:
                lines = [line for log in logs for line in log.readlines()]
                if not lines:
                    time.sleep(0.5)
                for found in map(_EVENT.search, lines):
                    if found:
                        self._tell(found[1])

    def _tell(self, event: str) -> None:
        name = re.search(r"'?([\w-]+)'?", event.split(": ", 1)[1])
        program = name[1] if name else ""
        if event.startswith("spawned") and program not in self._started:
            self._started.add(program)
            return
        log = self.var / "log" / f"{'parent' if program == 'roles' else program}.log"
        self.say(event + (f" (see {log})" if event.startswith("exited") else ""))

    def _await_ready(self, patience_s: float = 60) -> None:
        deadline = time.monotonic() + patience_s
        while not self._answers():
            if not self.is_running:
                raise StartError(f"supervisor stopped; see {self.var / 'log' / 'supervisord.log'}")
            if time.monotonic() > deadline:
                raise StartError(
                    f"Not ready within {patience_s:.0f} s. The logs are in {self.var / 'log'}:\n{self._tails()}"
                )
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with (
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports.web}/readyz", timeout=2) as ready,
                socket.create_connection(("127.0.0.1", self.ports.flower), timeout=2),
            ):
                return bool(ready.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _tails(self) -> str:
        def parts() -> Iterator[str]:
            for log in sorted((self.var / "log").glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()[-5:]
                yield f"--- {log.name}\n" + "\n".join(lines)

        return "\n".join(parts())

    @property
    def is_running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def stop(self) -> None:
        """Stop everything; what does not end in time is killed."""
        self._stopping = True
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(STOP_WITHIN_S)
        kill_marked(MARK, self._mark)


def _role(name: str, command: str) -> Role:
    return Role(
        name=name,
        command=tuple(shlex.split(command)[1:]),
        stop_signal=signal.SIGKILL if name in _KILLED_AT_ONCE else signal.SIGTERM,
        holds_port=name in _HOLD_PORTS,
    )


def is_up(var: Path) -> bool:
    """Whether a supervisor of this var directory is alive."""
    try:
        pid = int((var / "supervisord.pid").read_text())
        return b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def clear_leftovers(var: Path) -> None:
    """Stop what is left of a group whose supervisor was killed, so that its ports are free again."""
    with contextlib.suppress(OSError):
        kill_marked(MARK, (var / MARK_FILE).read_text().strip())


def keep_services(services: embedded.Services | None, say: Callable[[str], None]) -> None:
    """Start an embedded service again that has died."""
    if services is None:
        return
    try:
        for name in embedded.revive(services.paths):
            say(f"{name} had died and was started again")
    except embedded.EmbeddedError as error:
        say(str(error))
