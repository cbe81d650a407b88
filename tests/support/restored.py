"""An installation of an earlier version, restored from its fixture into a database of its own, and brought up to date."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg.conninfo import make_conninfo

from config.env import BASE_DIR
from devtools.processes import Ports
from tests.support.workers import WorkerPool, await_that

FIXTURES = BASE_DIR / "tests" / "fixtures"
STORE = 9
"""The number of the store's database: nobody else of the tests uses it."""
PREFIX = "restored"
Row = dict[str, Any]


class Restored:
    """The installation, its database and its processes. Everything is done from outside: by SQL, commands and HTTP."""

    def __init__(self, fixture: str, var: Path) -> None:
        self.manifest = json.loads((FIXTURES / f"{fixture}.json").read_text())
        self.name = f"restored_{os.getpid()}"
        self._server = make_conninfo(os.environ["DATABASE_URL"], dbname="postgres")
        self._url = make_conninfo(os.environ["DATABASE_URL"], dbname=self.name)
        self.store = os.environ["REDIS_URL"].rsplit("/", 1)[0] + f"/{STORE}"
        ports = Ports.any_free()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
            "DATABASE_URL": self._url,
            "REDIS_URL": self.store,
            "HEADRACE_REDIS_PREFIX": PREFIX,
            "HEADRACE_SECRET_KEY": self.manifest["secretKey"],
            "HEADRACE_VAR_DIR": str(var),
            "HEADRACE_ALLOWED_PRIVATE_HOSTS": "127.0.0.1,localhost",
            "HEADRACE_LOG_LEVEL": "WARNING",
            "PORT": str(ports.web),
        }
        self.environment.pop("BROKER_URL", None)
        self._ports = ports
        self._pool = WorkerPool(self.environment)
        self._web: subprocess.Popen[bytes] | None = None
        self._logs = var
        self._make_database(gzip.decompress((FIXTURES / f"{fixture}.sql.gz").read_bytes()).decode())

    def _make_database(self, dump: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{self.name}"'.encode())
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(dump.encode())
        self._connection = psycopg.connect(self._url, autocommit=True)
        self._flush()

    def _flush(self) -> None:
        with redis.Redis.from_url(self.store) as store:
            store.flushdb()

    # --- reading -----------------------------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """The rows; of one column, its values."""
        rows = self._connection.execute(statement.encode(), parameters).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    def change(self, statement: str) -> int:
        """Changes rows past the product; how many."""
        return self._connection.execute(statement.encode()).rowcount

    def tables(self) -> dict[str, list[Row]]:
        """All rows of all tables, by the names that the tables have today."""
        names = self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        rows = {name: self.sql(f'SELECT to_jsonb(t) FROM "{name}" t') for name in sorted(names)}
        return {re.sub("^(workflows|throttling|dlq)_", r"headrace_\1_", name): found for name, found in rows.items()}

    # --- running -----------------------------------------------------------------------------------------------------

    def command(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command of the current code on the restored database."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=BASE_DIR, env=self.environment, input=given,
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip

    def start(self) -> None:
        """The workers and the web, ready to serve."""
        self._pool.start("io")
        self._pool.start("compute")
        with (self._logs / "web.log").open("ab") as log:
            self._web = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1",
                 "--port", str(self._ports.web), "--lifespan", "off", "--log-level", "warning"],
                cwd=BASE_DIR, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        await_that(self._is_ready, 60, "the restored installation is ready")

    def _is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """Leave nothing behind, neither processes nor data."""
        for process in list(self._pool.processes):
            self._pool.kill(process)
        if self._web is not None:
            self._web.kill()
            self._web.wait()
        self._connection.close()
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)'.encode())
        self._flush()

    # --- asking ------------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, org: str = "", **more: Any) -> httpx.Response:
        """One request, with the API key of an organization where one is named."""
        headers = {"authorization": f"Bearer {self.manifest['keys'][org]['api']}"} if org else {}
        headers |= more.pop("headers", {})
        return httpx.request(method, f"http://127.0.0.1:{self._ports.web}{path}", headers=headers, timeout=30, **more)

    def ask(self, method: str, path: str, org: str = "", **more: Any) -> Any:
        """The JSON of an answer that must be a success."""
        answer = self.request(method, path, org, **more)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def send(self, name: str, data: Mapping[str, Any] | None = None, org: str = "acme") -> str:
        """Sends an event with the stored event key; its id."""
        body = {"name": name, "data": dict(data or {})}
        id_: str = self.ask("POST", f"/e/{self.manifest['keys'][org]['event']}", json=body)["ids"][0]
        return id_

    def run_id(self, label: str) -> str:
        id_: str = self.manifest["runs"][label]["id"]
        return id_

    def await_run_of(self, event_id: str) -> Row:
        """The run that an event has started, once it has ended."""
        found: Row = await_that(
            lambda: next(iter(self.sql("SELECT to_jsonb(r) FROM headrace_workflows_run r WHERE event_id = %s AND ended_at IS NOT NULL", event_id)), None),
            30, f"the run of event {event_id}",
        )  # fmt: skip
        return found


def differences(before: Mapping[str, list[Row]], after: Mapping[str, list[Row]], *, but: frozenset[str]) -> list[str]:
    """The tables whose rows are not what they were, by the columns that both have."""
    changed = []
    for name, rows in before.items():
        if name in but:
            continue
        columns = rows[0].keys() if rows else set()
        kept = [{key: value for key, value in row.items() if key in columns} for row in after.get(name, [])]
        if _counted(rows, kept) != _counted(kept, rows):
            changed.append(f"{name}: {len(rows)} rows before, {len(kept)} after")
    return changed


def _counted(rows: list[Row], others: list[Row]) -> Counter[str]:
    common = set(others[0]) if others else set()
    return Counter(json.dumps({k: v for k, v in row.items() if k in common}, sort_keys=True) for row in rows)
