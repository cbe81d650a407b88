"""The parent of `up`'s processes: what they share, and what becomes of those that end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.env import BASE_DIR
from devtools import roles
from devtools.embedded.shared import command_line
from devtools.marks import marked
from devtools.roles import MARK, ROOM, Configuration, Role
from tests.support.workers import await_that, is_alive

ROLE = """
import json, os, random, signal, sys, threading, time
import uuid6
from django.conf import settings
from workflows import this_process
print(json.dumps({
    "argv": sys.argv, "name": __name__, "random": random.random(), "uuid7": str(uuid6.uuid7()),
    "threads": threading.active_count(), "blocked": [int(number) for number in signal.pthread_sigmask(0, [])],
    "flower": "config.flower_guard" in sys.modules, "parts": len(this_process._parts._made),
    "configured": settings.configured, "session": os.getsid(0) == os.getpid(),
}), flush=True)
if sys.argv[1] == "fails":
    raise SystemExit(3)
time.sleep(600)
"""


class Group:
    """A parent with roles of a test."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.logs = directory
        (directory / "role.py").write_text(ROLE)
        Configuration(
            roles=tuple(Role(name=name, command=(str(directory / "role.py"), name)) for name in arguments),
            logs=str(directory),
            pid_file=str(directory / "roles.pid"),
            stop_within_s=5,
        ).write(directory / "roles.json")
        self.mark = directory.name + os.urandom(4).hex()
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "devtools.roles", str(self.logs / "roles.json"), ROOM]
        environment = {**os.environ, MARK: self.mark, "DJANGO_SETTINGS_MODULE": "config.settings"}
        return subprocess.Popen(command, cwd=BASE_DIR, env=environment, start_new_session=True)

    def said(self, name: str) -> list[dict[str, Any]]:
        """What the role has said, a line for each time that it was started."""
        log = self.logs / f"{name}.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def events(self) -> list[str]:
        return [line.split(" ", 3)[3] for line in (self.logs / "roles.log").read_text().splitlines()]

    def pids(self) -> list[int]:
        return [pid for pid in marked(MARK, self.mark) if pid != self.process.pid and is_alive(pid)]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    started = Group(tmp_path, "one", "two", "fails")
    try:
        yield started
    finally:
        for pid in marked(MARK, started.mark):
            os.kill(pid, signal.SIGKILL)
        started.process.wait(10)


def test_roles_share_the_application_and_nothing_else(group: Group) -> None:
    await_that(lambda: group.said("one") and group.said("two"), 60, "both have begun")
    one, two = group.said("one")[0], group.said("two")[0]
    for name, said in (("one", one), ("two", two)):
        assert (said["argv"], said["name"]) == ([str(group.logs / "role.py"), name], "__main__")
        assert (said["threads"], said["blocked"], said["parts"]) == (1, [], 0)
        assert (said["configured"], said["session"], said["flower"]) == (True, True, False)
    assert one["random"] != two["random"]
    assert one["uuid7"] != two["uuid7"]
    assert len(os.listdir(f"/proc/{group.process.pid}/task")) == 1  # noqa: PTH208
    held = [os.readlink(entry) for entry in Path(f"/proc/{group.process.pid}/fd").iterdir()]  # noqa: PTH115
    assert not [target for target in held if target.startswith(("socket:", "anon_inode:"))]
    titles = {command_line(pid) for pid in group.pids()}
    for name in ("one", "two"):
        assert any(f"role.py {name}" in title.replace("\0", " ") for title in titles), titles


def test_what_ends_is_started_again_with_a_growing_pause(group: Group) -> None:
    await_that(lambda: len(group.said("fails")) >= 3, 60, "three starts")
    assert group.events.count("exited: fails (exit status 3)") >= 2
    pid = next(pid for pid in group.pids() if "role.py\0one" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: len(group.said("one")) == 2, 30, "the second start")
    assert "exited: one (terminated by SIGKILL)" in group.events


def test_at_its_end_the_parent_takes_all_along(group: Group) -> None:
    await_that(lambda: group.said("one") and group.said("two"), 60, "both have begun")
    group.process.terminate()
    assert group.process.wait(15) == 0
    assert group.pids() == []
    assert {"exited: one (terminated by SIGTERM)", "exited: two (terminated by SIGTERM)"} <= set(group.events)


def test_a_parent_that_is_killed_leaves_nothing(group: Group) -> None:
    await_that(lambda: group.said("one") and group.said("two"), 60, "both have begun")
    group.process.kill()
    group.process.wait(10)
    await_that(lambda: group.pids() == [], 15, "they end with it")


def test_a_thread_and_a_socket_are_not_to_be_shared() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    with socket.socket():
        thread.start()
        try:
            found = roles.not_to_be_shared()
        finally:
            over.set()
            thread.join()
    assert any("more threads" in each for each in found)
    assert any(each.startswith("socket:") for each in found)


def test_a_log_that_is_too_long_begins_anew_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("a", buffering=1) as writer:
        for number in range(4):
            writer.write(f"{number}" * 10 + "\n")
            roles.shorten(log, max_bytes=5)
        writer.write("end\n")
    assert log.read_text() == "end\n"
    assert (tmp_path / "x.log.1").read_text() == "3" * 10 + "\n"
    assert (tmp_path / "x.log.2").read_text() == "2" * 10 + "\n"
    assert not (tmp_path / "x.log.3").exists()
