"""`manage.py up` as a user meets it: one command, the printed login, a curl, kills, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from devtools.embedded.shared import command_line
from tests.support.instance import Instance
from tests.support.workers import await_that, parent_of


def test_it_prints_one_table_and_keeps_the_login(instance: Instance) -> None:
    file = instance.var / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(instance.credentials) == {"baseUrl", "username", "password", "apiKey", "eventKey"}
    for value in instance.credentials.values():
        assert value in instance.terminal
    assert "ecommerce-order-processing v1  (event order/created)" in instance.terminal


def test_a_curl_with_the_printed_key_runs_a_flow(instance: Instance) -> None:
    with instance.client() as client:
        answer = client.post("/api/workflows/demo-task/run", json={"triggerData": {"taskId": "t", "delayMs": 10}})
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert (body["success"], body["queued"], body["message"]) == (True, True, "Workflow queued for execution")
        run = await_that(lambda: _ended(client, body["runId"]), 30)
        assert run["status"] == "completed"
        assert [step["status"] for step in run["steps"]] == ["completed"] * 5
        assert run["output"] == {"taskId": "t", "success": True, "steps": 5}
        again = client.post("/api/workflows/demo-task/run", json={"triggerData": {"taskId": "t"}}).json()
        assert (again["runId"], again["existing"]) == (body["runId"], True)  # W: 24 hours by `taskId`
        forced = client.post(
            "/api/workflows/demo-task/run", json={"triggerData": {"taskId": "t", "force": True}}
        ).json()
        assert (forced["runId"] != body["runId"], forced["existing"]) == (True, False)


def _ended(client: httpx.Client, run_id: str) -> Any:
    run = client.get(f"/api/runs/{run_id}").json()
    return run if run["endedAt"] else None


def test_the_pages_are_served(instance: Instance) -> None:
    with instance.client() as client:
        assert client.get("/readyz").json() == {
            "ready": True,
            "checks": {"database": True, "connections": True, "store": True, "broker": True, "workers": True},
        }
        assert "swagger" in client.get("/api/docs").text.lower()
        assert client.get("/admin/login/").status_code == 200
        assert client.get("/static/headrace/vendor/htmx-2.min.js").status_code == 200
    address = f"http://127.0.0.1:{instance.ports.flower}/"
    assert httpx.get(address).status_code == 401
    login = (instance.credentials["username"], instance.credentials["password"])
    assert httpx.get(address, auth=login).status_code == 200


def test_commands_beside_it_use_the_same_services(instance: Instance) -> None:
    done = instance.command(
        "trigger", "conditional-refund", "--data", '{"refundId": "r", "amount": 4000}', "--wait", "--json"
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert {step["id"]: step["status"] for step in run["steps"]}["pay-at-once"] == "skipped"
    shown = instance.command("runs", "show", run["id"])
    assert "ask-a-person" in shown.stdout
    listed = json.loads(instance.command("runs", "list", "--json", "--flow", "conditional-refund").stdout)
    assert [each["id"] for each in listed["runs"]] == [run["id"]]
    doctor = instance.command("doctor", "--json")
    assert (doctor.returncode, json.loads(doctor.stdout)["zombies"]) == (0, 0)
    assert instance.process.poll() is None
    missing = instance.command("trigger", "no-such-flow")
    assert (missing.returncode, "There is no flow 'no-such-flow'" in missing.stderr) == (1, True)


def test_flows_can_be_applied_and_exported(instance: Instance, tmp_path: Path) -> None:
    good = tmp_path / "hello.yaml"
    good.write_text("flow: hello\nsteps: [{id: a, type: noop}]\n")
    assert "hello: version 1 published" in instance.command("flows", "apply", str(good)).stdout
    assert "hello: version 1 unchanged" in instance.command("flows", "apply", str(good)).stdout
    exported = tmp_path / "exported.yaml"
    exported.write_text(instance.command("flows", "export", "hello").stdout)
    assert "unchanged" in instance.command("flows", "apply", str(exported)).stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("flow: hello\nsteps: [{id: a, type: noop, neds: [x]}]\n")
    refused = instance.command("flows", "validate", str(bad))
    assert refused.returncode == 1
    assert f"{bad}: steps[0].neds: unknown field; did you mean 'needs'?" in refused.stderr


def test_a_second_instance_is_told_that_the_port_is_taken(instance: Instance) -> None:
    refused = instance.command("up")
    assert refused.returncode == 1
    assert f"Port {instance.ports.web} is taken" in refused.stderr


VICTIMS = (
    "uvicorn", "worker -P threads", "worker -P prefork", "celery -A config beat", "celery -A config flower",
    "examples/server.py", "devtools.roles", "valkey-server", "bin/postgres -D",
)  # fmt: skip


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_dies_is_started_again_and_the_terminal_says_so(instance: Instance, victim: str) -> None:
    before = instance.terminal.count("exited") + instance.terminal.count("was started again")
    everybody = {*instance.members(), int((instance.var / "valkey" / "valkey.pid").read_text())}
    found = {pid for pid in everybody if victim in command_line(pid)}
    pid = next(pid for pid in found if parent_of(pid) not in found)  # not a child of it, which has its command line
    os.kill(pid, signal.SIGKILL)
    await_that(
        lambda: instance.terminal.count("exited") + instance.terminal.count("was started again") > before, 15, victim
    )
    with instance.client() as client:
        await_that(lambda: _ready(client), 45, f"ready after the death of {victim}")
        run_id = client.post(
            "/api/workflows/demo-task/run", json={"triggerData": {"taskId": f"after {victim}"[:200], "delayMs": 1}}
        ).json()["runId"]
        assert await_that(lambda: _ended(client, run_id), 40)["status"] == "completed"


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_ctrl_c_stops_everything_within_15_seconds(instance: Instance) -> None:
    with instance.client() as client:
        for number in range(5):
            client.post("/api/workflows/demo-task/run", json={"triggerData": {"taskId": f"t{number}", "delayMs": 3000}})
    assert len(instance.members()) > 6
    assert instance.stop() < 15
    await_that(lambda: instance.members() == [], 2, "no process is left")
    assert re.search(r"stopping …\s+stopped\s*$", instance.terminal)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", instance.ports.web))


@pytest.mark.parametrize("victims", [["manage.py up"], ["supervisor.supervisord", "manage.py up"]])
def test_the_kill_of_its_parents_leaves_nothing_that_hinders_the_next_start(tmp_path: Path, victims: list[str]) -> None:
    first = Instance(tmp_path / "var")
    second: Instance | None = None
    try:
        first.await_started()
        for victim in victims:
            os.kill(next(pid for pid in first.members() if victim in command_line(pid)), signal.SIGKILL)
        first.process.wait(10)
        if len(victims) == 1:
            await_that(lambda: not any("celery" in command_line(pid) for pid in first.members()), 20, "the group stops")
        second = Instance(tmp_path / "var", first.ports)
        second.await_started()
        assert second.credentials["apiKey"] in first.terminal
        assert second.stop() < 15
        await_that(lambda: second.members() == [], 2, "no process is left")
    finally:
        for started in (first, second):
            if started is not None:
                for pid in started.members():
                    os.kill(pid, signal.SIGKILL)
                started.process.wait(5)
                started.end_reading()
