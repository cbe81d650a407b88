"""`up`, without the application: services, the process group, and an eye on both until Ctrl-C.

What needs the application (migrations, examples, what is announced) is done by a process of its own, which ends: this
one stays for as long as the group does, and would hold a hundred MiB for nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import NoReturn

from config import env
from devtools import embedded
from devtools.processes import Ports, ProcessGroup, StartError, clear_leftovers, is_up, keep_services
from devtools.settled import Settled

LOOK_S = 1.0


def run() -> None:
    """Start everything, say so, and stop it at a signal. Raises StartError where it does not start, or ends."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    var, ports = env.read().var_dir, Ports(env.read().port)
    services = embedded.use() or embedded.current()
    if not is_up(var):
        clear_leftovers(var)
    ports.check_free()
    settled = _settle(ports)
    group = ProcessGroup(var, ports, settled.basic_auth, _say)
    try:
        if not stop.is_set():
            group.start()
            _say(settled.announcement)
        while not stop.wait(LOOK_S):
            keep_services(services, _say)
            if not group.is_running:
                raise StartError("The supervisor has stopped; see the logs.")
    finally:
        _say("stopping …")
        group.stop()
        if services is not None:
            services.release()
        _say("stopped")


def main() -> NoReturn:
    """The command `manage.py up`."""
    try:
        run()
    except StartError as error:
        sys.exit(f"headrace: {error}")
    sys.exit(0)


def _settle(ports: Ports) -> Settled:
    """Migrate, and create what is missing, in a process of its own; the login, and what to announce."""
    terminal = {"FORCE_COLOR": "1", "COLUMNS": str(shutil.get_terminal_size().columns)} if sys.stdout.isatty() else {}
    done = subprocess.run(
        [sys.executable, "-m", "devtools.first_start", str(ports.web), str(ports.flower), str(ports.examples)],
        stdout=subprocess.PIPE, env={**os.environ, **terminal}, cwd=env.BASE_DIR, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StartError("The database could not be prepared.")
    return Settled.of(done.stdout)


def _say(what: str) -> None:
    sys.stdout.write(what.rstrip("\n") + "\n")
    sys.stdout.flush()
