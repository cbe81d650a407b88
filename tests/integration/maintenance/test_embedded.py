"""The embedded services: joining, surviving kills, refusing what they can't read."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from config import env
from config.env import BASE_DIR, read
from config.services import use_services
from devtools import embedded
from tests.support.workers import await_that
from throttling.errors import EnvironmentValueError


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    for part in (tmp_path, *tmp_path.parents[:3]):
        if part.owner() == tmp_path.owner() and part != Path("/tmp"):
            part.chmod(0o755)
    yield tmp_path / "var"
    embedded.stop(embedded.Paths(var=tmp_path / "var"))


def postmaster(var: Path) -> int:
    pid = embedded.postmaster_pid(embedded.Paths(var=var))
    assert pid is not None
    return pid


def test_data_outlives_a_stop_and_the_settings_are_safe(var: Path) -> None:
    first = embedded.start(var)
    with psycopg.connect(first.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        for name, value in (("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")):
            assert connection.execute(f"SHOW {name}").fetchone() == (value,)
    with redis.Redis.from_url(first.redis_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    first.release()
    assert embedded.postmaster_pid(embedded.Paths(var=var)) is None
    again = embedded.start(var)
    with psycopg.connect(again.database_url) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (1,)
    assert again.redis_url == first.redis_url
    again.release()


def test_a_second_start_joins_and_the_last_one_stops_them(var: Path) -> None:
    one, two = embedded.start(var), embedded.start(var)
    pid = postmaster(var)
    one.release()
    assert postmaster(var) == pid
    two.release()
    assert embedded.postmaster_pid(embedded.Paths(var=var)) is None


def test_they_survive_the_kill_of_the_process_that_started_them(var: Path) -> None:
    code = (
        "import os, sys, time; from devtools import embedded; embedded.use(); print('up', flush=True); time.sleep(60)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=BASE_DIR,
        env={**environment, "HEADRACE_VAR_DIR": str(var)},
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        pid = postmaster(var)
        starter.kill()
    services = embedded.start(var)
    assert postmaster(var) == pid
    services.release()
    await_that(lambda: not Path(f"/proc/{pid}").exists(), 10)


def test_a_stale_pid_of_another_program_does_not_count(var: Path) -> None:
    embedded.start(var).release()
    (var / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n/x\n1\n5432\n/x\n\n1 1\nready\n")
    (var / "valkey" / "valkey.pid").write_text(str(os.getpid()))
    services = embedded.start(var)
    with psycopg.connect(services.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    services.release()


def test_both_are_revived_after_a_kill(var: Path) -> None:
    services = embedded.start(var)
    pid = postmaster(var)
    os.kill(pid, signal.SIGKILL)
    valkey = embedded.valkey_pid(services.paths)
    assert valkey is not None
    os.kill(valkey, signal.SIGKILL)
    time.sleep(0.2)
    assert embedded.revive(services.paths) == ["Postgres", "Valkey"]
    with psycopg.connect(services.database_url) as connection, redis.Redis.from_url(services.redis_url) as client:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert client.ping()
    assert embedded.revive(services.paths) == []
    services.release()


def test_a_half_initialised_directory_is_made_anew(var: Path) -> None:
    (var / "postgres").mkdir(parents=True)
    (var / "postgres" / "PG_VERSION").write_text("18\n")
    (var / "postgres" / "base").mkdir()
    services = embedded.start(var)
    services.release()


def test_a_directory_of_a_newer_postgres_is_refused_and_left_alone(var: Path) -> None:
    (var / "postgres").mkdir(parents=True)
    (var / "postgres" / "PG_VERSION").write_text("19\n")
    with pytest.raises(embedded.EmbeddedError, match=r"belongs to Postgres 19, this is Postgres 18"):
        embedded.start(var)
    assert (var / "postgres" / "PG_VERSION").read_text() == "19\n"


def test_no_mode_of_a_parent_directory_is_changed(var: Path) -> None:
    private = var.parent / "home"
    private.mkdir(mode=0o700)
    before = [stat.S_IMODE(part.stat().st_mode) for part in (private, *private.parents)]
    services = embedded.start(private / "var")
    services.release()
    assert [stat.S_IMODE(part.stat().st_mode) for part in (private, *private.parents)] == before
    shutil.rmtree(private)


def test_nothing_is_started_where_both_addresses_are_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://a/b")
    monkeypatch.setenv("REDIS_URL", "redis://c")
    use_services()
    assert embedded.use() is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("REDIS_URL")
    with pytest.raises(env.ServicesError, match="REDIS_URL is not set"):
        use_services()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "0"), ("PORT", "70000"), ("HEADRACE_DEBUG", "maybe"), ("HEADRACE_LOG_FORMAT", "xml")],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(EnvironmentValueError, match=name):
        read({name: value})


def test_the_broker_may_be_somewhere_else() -> None:
    assert read({"REDIS_URL": "redis://r", "BROKER_URL": "amqp://b"}).broker_url == "amqp://b"
    assert read({"REDIS_URL": "redis://r"}).broker_url == "redis://r"
