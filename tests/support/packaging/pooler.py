"""pgbouncer between the processes of a test and Postgres, in the mode `transaction`: each transaction may get another
connection. It is not part of what the tests install: without it they are skipped."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from devtools.processes import Ports
from tests.support.workers import await_that

BINARY = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
PLANS = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET plan_cache_mode = force_generic_plan; SET jit = off"
)
SERVERS = 4
"""Connections to Postgres: fewer than the processes have, so that they do get those of others."""


class Pooler:
    """A running pgbouncer for one database."""

    def __init__(self, url: str, directory: Path) -> None:
        assert BINARY is not None
        parts = conninfo_to_dict(url)
        self.port = Ports.any_free().web
        self.database = str(parts["dbname"])
        self.user = str(parts.get("user") or "postgres")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "users.txt").write_text(f'"{self.user}" ""\n')
        target = " ".join(f"{name}={parts[name]}" for name in ("host", "port") if parts.get(name))
        (directory / "pgbouncer.ini").write_text(
            f"[databases]\n{self.database} = {target} dbname={self.database} user={self.user} connect_query='{PLANS}'\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {directory / 'users.txt'}\nadmin_users = {self.user}\n"
            f"pool_mode = transaction\ndefault_pool_size = {SERVERS}\nmax_client_conn = 500\n"
        )
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
        for path in (directory, *directory.iterdir()):
            path.chmod(0o755)
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, *as_nobody, str(directory / "pgbouncer.ini")], stdout=log, stderr=log
            )
        self._log = directory / "log"
        try:
            await_that(self._answers, 20, "pgbouncer")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self._log.read_text()[-2000:]}") from None

    @property
    def url(self) -> str:
        """The address of the database behind it."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{self.database}"

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                return connection.execute("SHOW enable_seqscan").fetchone() == ("off",)
        except psycopg.OperationalError:
            return False

    def pools(self) -> list[dict[str, Any]]:
        """What pgbouncer says of its pools: how many clients and servers there are."""
        address = f"postgresql://{self.user}@127.0.0.1:{self.port}/pgbouncer"
        with (
            contextlib.closing(psycopg.connect(address, autocommit=True)) as connection,
            psycopg.ClientCursor(connection) as cursor,
        ):
            cursor.execute("SHOW POOLS")
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall() if row[0] == self.database]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
