"""What a running `up` shows to others on its machine: logs, files, command lines, the store, Flower."""

from __future__ import annotations

import os
import re
import signal
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from devtools.embedded.shared import command_line
from tests.acceptance.up.test_up import _ready
from tests.support.instance import Instance, running
from tests.support.workers import await_that

FLOW = """
flow: hooked
on: [{webhook: none, name: hook/called}]
steps: [{id: wait, type: wait_for_callback, config: {timeout: 1h}}, {id: tell, type: noop, config: {output: 1}}]
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    var = tmp_path_factory.mktemp("up") / "var"
    logs = var / "log"
    logs.mkdir(parents=True)
    (logs / "web.log").touch(mode=0o644)  # as an earlier version has left it
    with running(var) as started:
        yield started


def files(var: Path) -> list[Path]:
    """Everything but the database's own files, which the tokens belong in."""
    return [path for path in var.rglob("*") if path.is_file() and (var / "postgres") not in path.parents]


def test_no_file_shows_an_event_key_a_webhook_or_a_callback(instance: Instance, tmp_path: Path) -> None:
    definition = tmp_path / "hooked.yaml"
    definition.write_text(FLOW)
    assert "published" in instance.command("flows", "apply", str(definition)).stdout
    event_key, base = instance.credentials["eventKey"], instance.credentials["baseUrl"]
    unknown = [f"hr_event_{uuid.uuid4().hex}", f"token{uuid.uuid4().hex}"]
    with instance.client() as client:
        flows = client.get("/api/workflows").json()["workflows"]
        (trigger,) = next(each["triggers"] for each in flows if each["slug"] == "hooked")
        token = trigger.rsplit("/", 1)[1]
        run_id = client.post("/api/workflows/hooked/run", json={}).json()["runId"]
        made = instance.command("shell", "-c", (
            "from workflows.steps.callback_urls import token_of; from uuid import UUID; "
            f"print('TOKEN', token_of(UUID('{run_id}'), 'wait'))"
        ))  # fmt: skip
        callback = re.search(r"TOKEN (\S+)", made.stdout)
        assert callback, made.stderr
        secrets = [event_key, token, callback[1], *unknown]
        assert client.post(f"/e/{event_key}", json={"name": "a"}).status_code == 200
        assert client.post(f"/e/{event_key}", content=b"no json").status_code == 400
        assert client.post(f"/hooks/{token}", json={}).status_code == 200
        assert client.post(f"/callbacks/{callback[1]}", json={}).status_code == 202
        assert client.post(f"/callbacks/{callback[1]}", json={}).status_code == 410
        for start in ("e", "hooks", "callbacks"):
            for secret in secrets:
                client.get(f"/{start}/{secret}")  # 405
                client.post(f"/{start}/{secret}/", json={})  # 404: one slash too many
                client.post(f"{base}//{start}/{secret}", json={})
                client.post(f"/{start}/{secret}%00", json={})  # a NUL: refused, or a 500
        pid = int((instance.var / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, signal.SIGKILL)
        answers = [client.post(f"/{start}/{secret}", json={"name": "x"}, timeout=40).status_code
                   for start, secret in (("e", event_key), ("hooks", token), ("callbacks", callback[1]))]  # fmt: skip
        assert any(status >= 500 for status in answers), answers
        await_that(lambda: _ready(client), 45, "ready again")
    log = instance.var / "log" / "web.log"
    assert "/hooks/***" in log.read_text()
    for path in files(instance.var):
        if path.name == "credentials.json":
            continue
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, (path, secret)


def test_what_holds_secrets_or_logs_is_for_its_owner_only(instance: Instance) -> None:
    held = [*(instance.var / "log").iterdir(), *(instance.var / "valkey").iterdir()]
    held += [instance.var / name for name in ("credentials.json", "secret_key", "supervisord.conf")]
    assert len(held) > 12
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in held if path.stat().st_mode & 0o077} == {}
    for directory in ("log", "valkey", "postgres"):
        assert stat.S_IMODE((instance.var / directory).stat().st_mode) == 0o700


def test_the_store_takes_nobody_without_the_password_which_no_command_line_and_no_log_shows(
    instance: Instance,
) -> None:
    password = (instance.var / "valkey" / "password").read_text()
    port = int((instance.var / "valkey" / "port").read_text())
    assert len(password) >= 32
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=port, password=password) as client:
        assert client.ping()
        assert client.dbsize() > 0  # the broker and the gate are at work in it
    valkey = int((instance.var / "valkey" / "valkey.pid").read_text())
    lines = [command_line(pid) for pid in (*instance.members(), valkey)]
    assert any("valkey-server" in line for line in lines)
    for secret in (password, instance.credentials["password"]):
        assert not any(secret in line for line in lines)
    for path in (instance.var / "log").iterdir():
        assert password.encode() not in path.read_bytes(), path
        assert instance.credentials["password"].encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/healthcheck",
        "/tasks",
        "/api/workers",
        "/api/tasks",
        "/static/css/flower.css",
        "/login",
        "/nothing",
    ],
)
def test_everything_of_flower_is_behind_its_login(instance: Instance, path: str) -> None:
    address = f"http://127.0.0.1:{instance.ports.flower}{path}"
    refused = httpx.get(address)
    assert (refused.status_code, refused.headers.get("www-authenticate")) == (401, 'Basic realm="flower"')
    login = (instance.credentials["username"], instance.credentials["password"])
    assert httpx.get(address, auth=login).status_code in {200, 404}
    assert httpx.options(address).status_code == 401


def test_flower_brakes_wrong_passwords(instance: Instance) -> None:
    """The last test of Flower here: it leaves this address braked."""
    address = f"http://127.0.0.1:{instance.ports.flower}/metrics"
    login = (instance.credentials["username"], instance.credentials["password"])
    assert httpx.get(address, auth=login).status_code == 200
    answers = [httpx.get(address, auth=("admin", f"wrong{number}")).status_code for number in range(11)]
    assert answers == [401] * 10 + [429]
    braked = httpx.get(address, auth=login)
    assert braked.status_code == 429
    assert 1 <= int(braked.headers["retry-after"]) <= 300


def test_flower_does_not_start_without_a_login(instance: Instance) -> None:
    import subprocess
    import sys

    from config.env import BASE_DIR

    environment = {name: value for name, value in instance.environment.items() if not name.startswith("FLOWER_")}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", "flower", "--address=127.0.0.1", "--port=0"],
        cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "set FLOWER_BASIC_AUTH" in done.stderr
