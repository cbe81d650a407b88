"""A project of somebody else, made by `startproject`, that Headrace is added to as the how-to says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from config.env import BASE_DIR
from devtools.processes import Ports
from tests.support.documents.pages import Block, blocks
from tests.support.packaging.wheels import Environment
from tests.support.workers import await_that

PAGE = BASE_DIR / "docs" / "howto" / "add_to_your_project.md"
STORE, BROKER = 10, 11
"""The numbers of the store's databases: Headrace's, and those of the project's own Celery."""
INIT = "from shop.celery import app as celery_app\n\n__all__ = ['celery_app']\n"
CELERY = """import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
MODELS = """from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    pass


class Run(models.Model):
    distance = models.IntegerField()

    class Meta:
        permissions = [("change_flow", "a name that Headrace has too")]
"""
TASKS = """import os
import time

from celery import shared_task


def note(line):
    with open(os.environ["SHOP_NOTES"], "a") as notes:
        notes.write(f"{line}\\n")


@shared_task
def add(x, y):
    note(f"add {x + y}")


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def flaky(self):
    note(f"flaky {self.request.retries}")
    if self.request.retries < 1:
        raise self.retry()


@shared_task(acks_late=True)
def charge(order):
    note(f"begin {order}")
    time.sleep(float(os.environ.get("SHOP_CHARGE_S", "0")))
    note(f"end {order}")
"""
SETTINGS = """
AUTH_USER_MODEL = "workflows.Person"
INSTALLED_APPS += ["workflows"]
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 2}
CELERY_TASK_SOFT_TIME_LIMIT = 77
"""
VISIBILITY_S = 2
OWN_DATABASE = 'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}}\n'
AFTER = """
DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["default"]["NAME"] = os.environ["SHOP_DATABASE"]
HEADRACE["REDIS_PREFIX"] = "shop"
"""


class Host:
    """The project, its database and its processes. Everything is done from outside."""

    def __init__(self, directory: Path, environment: Environment) -> None:
        self.directory, self.port, self.packages = directory, Ports.any_free().web, environment
        self.name = f"shop_{os.getpid()}"
        self._server = make_conninfo(os.environ["DATABASE_URL"], dbname="postgres")
        store = os.environ["REDIS_URL"].rsplit("/", 1)[0]
        parts = conninfo_to_dict(self._server)
        libpq = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        self.environment = {
            "PATH": f"{environment.directory / 'bin'}:{os.environ['PATH']}", "HOME": str(directory), "LANG": "C.UTF-8",
            **{variable: str(parts[name]) for name, variable in libpq.items() if parts.get(name)},
            "SHOP_DATABASE": self.name,
            "SHOP_REDIS_URL": f"{store}/{STORE}", "SHOP_BROKER_URL": f"{store}/{BROKER}",
            "SHOP_NOTES": str(directory / "notes"),
        }  # fmt: skip
        self._processes: list[subprocess.Popen[bytes]] = []
        self._make_database()
        self._begin()

    def _make_database(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{self.name}"'.encode())

    def _begin(self) -> None:
        """As it was before anybody thought of Headrace: an app `workflows` with a table, migrated, and a Celery app."""
        self.run("python -m django startproject shop .")
        app = self.directory / "workflows"
        app.mkdir()
        self._write("workflows/__init__.py", "")
        self._write("workflows/models.py", MODELS)
        self._write("workflows/tasks.py", TASKS)
        self._write("shop/celery.py", CELERY)
        self._write("shop/__init__.py", INIT)
        self._add("shop/settings.py", SETTINGS + "import os\n" + OWN_DATABASE + "HEADRACE = {}\n" + AFTER)
        self.run("python manage.py makemigrations workflows && python manage.py migrate")
        self.sql("INSERT INTO workflows_run (distance) VALUES (42)")

    # --- as the page says --------------------------------------------------------------------------------------------

    def follow(self, section: str) -> None:
        """Do what the page says under a heading, top to bottom."""
        for block in self._blocks(section):
            if block.language in {"python", "yaml"}:
                self._file(block)
            elif "curl" in block.text:
                self.said = self.run(self._ported(block.text))
            elif "runserver" in block.text:
                for line in block.text.strip().splitlines():
                    self.start(self._ported(line))
                self.await_ready()
            elif "pip install" not in block.text:
                self.run(block.text)

    def _blocks(self, section: str) -> list[Block]:
        text = PAGE.read_text()
        first = text[: text.index(f"\n## {section}\n")].count("\n") + 2
        after = re.search(r"^## ", text[text.index(f"\n## {section}\n") + 4 :], re.MULTILINE)
        last = first + text[text.index(f"\n## {section}\n") + 4 :][: after.start()].count("\n") if after else 10**6
        return [block for block in blocks(PAGE) if first <= block.line <= last]

    def _ported(self, text: str) -> str:
        """Another port than written, and the keys that an earlier command of the page has printed."""
        keys = self.directory / "keys.json"
        key = json.loads(keys.read_text())["apiKey"] if keys.exists() else ""
        return f"KEY={key}\n" + text.replace("8000", str(self.port)) + "\n"

    def _file(self, block: Block) -> None:
        added = re.search(r"[Aa]dd this to the end of `([\w./]+)`", block.before)
        if added:
            self._add(added[1], block.text + AFTER)
        else:
            self._write(block.file, block.text)

    # --- doing -------------------------------------------------------------------------------------------------------

    def run(self, script: str, **more: str) -> str:
        """Run a script in the project's environment; what it prints. Raises AssertionError where it fails."""
        done = self.attempt(script, **more)
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}"
        return done.stdout

    def attempt(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", script], cwd=self.directory, env={**self.environment, **more}, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip

    def python(self, code: str) -> Any:
        """What a script within the project prints as JSON in its last line."""
        setup = "import django, json, os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\ndjango.setup()\n"
        self._write("script.py", setup + code)
        return json.loads(self.run("python script.py").strip().splitlines()[-1])

    def start(self, command: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a process that goes on."""
        with (self.directory / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.directory, env={**self.environment, **more}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, its children too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def await_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/headrace/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        try:
            await_that(is_ready, 60, "the project is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.directory / 'processes.log').read_text()[-4000:]}") from None

    def is_overdue(self) -> bool:
        """Whether the project's broker would deliver a message again: a worker that starts then looks for such at once."""
        with redis.Redis.from_url(self.environment["SHOP_BROKER_URL"]) as broker:
            return bool(broker.zrangebyscore("unacked_index", 0, time.time() - VISIBILITY_S - 0.5))

    def notes(self) -> list[str]:
        """What the project's own tasks have written."""
        path = Path(self.environment["SHOP_NOTES"])
        return path.read_text().splitlines() if path.exists() else []

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(make_conninfo(self._server, dbname=self.name), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> set[str]:
        return {str(name) for (name,) in self.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request with the API key of the page."""
        key = json.loads((self.directory / "keys.json").read_text())["apiKey"]
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(
            method, f"http://127.0.0.1:{self.port}/headrace{path}", headers=headers, timeout=30, **more
        )

    def await_run(self, run_id: str, patience_s: float = 60) -> dict[str, Any]:
        """The run, once it has ended."""

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.request("GET", f"/api/runs/{run_id}").json()
            return run if run["endedAt"] else None

        found: dict[str, Any] = await_that(ended, patience_s, f"the run {run_id}")
        return found

    def stop(self) -> None:
        """Leave nothing behind."""
        for process in self._processes:
            self.kill(process)
        time.sleep(0.1)
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)'.encode())

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def _add(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(path.read_text() + "\n" + text)
