"""A copy of the project as a reader has it, with an instance of its own, and quick commands."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from config.env import BASE_DIR
from devtools.processes import Ports
from tests.support.workers import await_that

NOT_COPIED = shutil.ignore_patterns(
    ".git", "var", ".venv", ".tools", "site", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "tests"
)
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
READY = "Ctrl-C stops it"
CLIENT = """#!{python} -IS
import os, socket, sys
if sys.argv[1:2] != ["manage.py"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect("{socket}")
socket.send_fds(server, ["\\0".join([os.getcwd(), *sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(int(server.recv(10) or b"1"))
"""


class Project:
    """A started copy. `.venv/bin/python manage.py …` in it is answered by one process that has imported everything and
    forks for each command: an import takes two seconds, and the pages have a hundred commands."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory, self.ports, self.terminal = directory, Ports.any_free(), ""
        shutil.copytree(BASE_DIR, directory, ignore=NOT_COPIED)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in NOT_OURS and not name.startswith(("HEADRACE_", "PYTEST"))
        }
        self.environment = {**kept, "PORT": str(self.ports.web), "COLUMNS": "200", **environment}
        self._server: subprocess.Popen[bytes] | None = None
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=directory,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            await_that(lambda: READY in self.terminal or self.process.poll() is not None, 120, "up")
            assert self.process.poll() is None, self.terminal
            self._serve()
        except BaseException:
            self.stop()
            raise

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.terminal += line

    def _serve(self) -> None:
        socket = self.directory / "var" / "commands"
        client = self.directory / ".venv" / "bin" / "python"
        client.parent.mkdir(parents=True)
        client.write_text(CLIENT.format(python=sys.executable, socket=socket))
        client.chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("commands.py")), str(socket)],
            cwd=self.directory,
            env=self.environment,
        )
        await_that(lambda: socket.exists() or (self._server and self._server.poll() is not None), 60, "the commands")

    def run(self, script: str, patience_s: float) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the project's directory."""
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=patience_s,
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(40)
        self._reader.join(5)
