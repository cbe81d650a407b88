"""Proxies between everybody and the two services: they count round trips, and delay them where told."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

from bench import proxy


class Between:
    """Proxies between everybody and the two services, as processes of their own. They count, and delay where told."""

    def __init__(self, delay_ms: float = 0.0) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        parts = conninfo_to_dict(os.environ["DATABASE_URL"])
        host, port = str(parts.get("host") or "127.0.0.1"), str(parts.get("port") or 5432)
        target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}"
        name, user = parts.get("dbname", "headrace"), parts.get("user", "postgres")
        password = f":{parts['password']}" if parts.get("password") else ""
        os.environ["DATABASE_URL"] = (
            f"postgresql://{user}{password}@127.0.0.1:{self._start('postgres', target, delay_ms)}/{name}"
        )
        store = urlsplit(os.environ["REDIS_URL"])
        login = store.netloc.rpartition("@")[0]
        at = f"127.0.0.1:{self._start('store', f'{store.hostname}:{store.port}', delay_ms)}"
        os.environ["REDIS_URL"] = urlunsplit(store._replace(netloc=f"{login}@{at}" if login else at))

    def _start(self, name: str, target: str, delay_ms: float) -> str:
        self._processes[name] = process = subprocess.Popen(
            [sys.executable, proxy.__file__, target, str(delay_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def turns(self, name: str) -> int:
        """Round trips so far: `postgres`, or `store`."""
        process = self._processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("count\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
