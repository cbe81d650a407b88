"""A copy of the project as a reader has it, with an instance of its own, and quick commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from config.env import BASE_DIR
from devtools.processes import Ports
from tests.support.instance import Up
from tests.support.workers import await_that

NOT_COPIED = shutil.ignore_patterns(
    ".git", "var", ".venv", ".tools", "site", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "tests"
)
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
CLIENT = """#!{python} -IS
import os, socket, sys
if sys.argv[1:2] != ["manage.py"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect("{socket}")
socket.send_fds(server, ["\\0".join([os.getcwd(), *sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(int(server.recv(10) or b"1"))
"""


class Project(Up):
    """A started copy. `.venv/bin/python manage.py …` in it is answered by one process that has imported everything and
    forks for each command: an import takes two seconds, and the pages have a hundred commands."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory, self.ports = directory, Ports.any_free()
        shutil.copytree(BASE_DIR, directory, ignore=NOT_COPIED)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in NOT_OURS and not name.startswith(("HEADRACE_", "PYTEST"))
        }
        self.environment = {**kept, "PORT": str(self.ports.web), "COLUMNS": "200", **environment}
        self._server: subprocess.Popen[bytes] | None = None
        super().__init__(directory, self.environment)
        try:
            self.await_started(120)
            self._serve()
        except BaseException:
            self.stop()
            raise

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

    def stop(self, patience_s: float = 40) -> float:
        """Stop it and what answers its commands; the seconds that this takes."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)
        return super().stop(patience_s)
