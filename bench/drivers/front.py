"""The front door: a load generator whose runs the workers execute meanwhile, and a client on the stream."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from typing import Any

import httpx

from bench import load
from bench.drivers.processes import cpu_s
from bench.drivers.site import Site
from workflows import services

KINDS = ("healthz", "get_run", "run", "event", "events_100")


class Front:
    """The web of a site, started at its first use, with keys of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._base = f"http://127.0.0.1:{site.ports.web}"
        self._api_key = self._event_key = ""

    def start(self, **environment: str) -> int:
        """Start the web where it does not run. Returns its port, once it answers."""
        port = self.site.ports.web
        if "web" in self.site.processes.running:
            return port
        self._api_key, self._event_key = self.site.api_key(), self.site.event_key()
        self.site.processes.start("web", self.site.commands["web"], **environment)
        for _ in range(300):
            try:
                if httpx.get(f"{self._base}/readyz", timeout=2).status_code == 200:
                    return port
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError("the web does not get ready; its log is beside the database")

    def measure(self, *, request: str, connections: int, seconds: int) -> dict[str, float]:
        """Requests a second with p50 and p99; `executed` counts the runs that had ended when the load was over, and
        `drained_s` what the rest took."""
        self.start()
        site = self.site
        call = self._call(request)
        load.run(call, connections=connections, seconds=1)
        site.await_idle()
        found = load.run(call, connections=connections, seconds=seconds)
        over = time.time()
        site.await_idle()
        spent: dict[str, float] = {**asdict(found), "drained_s": time.time() - over}
        spent["items_per_s"] = found.per_s * (100 if request == "events_100" else 1)
        if call.method == "POST":
            spent["executed_per_s"] = spent["items_per_s"] * seconds / (seconds + spent["drained_s"])
        return spent

    def received(self, *, events: int, in_flight: int) -> dict[str, float]:
        """Events, each in a request of its own, until the runs that they start have ended: runs a second, and the CPU
        that web and worker have used for each."""
        self.start()
        call, each = self._call("event"), events // in_flight
        self._post(call, 10)
        self.site.await_idle()
        used_before, called = self._cpu_s(), time.time()
        threads = [threading.Thread(target=self._post, args=(call, each)) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = self.site.await_runs(each * in_flight, since=called - 0.001)
        used = self._cpu_s() - used_before
        return {"executed_per_s": each * in_flight / (ended - called), "cpu_us": used * 1e6 / (each * in_flight)}

    def _post(self, call: load.Call, count: int) -> None:
        with httpx.Client(timeout=30) as client:
            for _ in range(count):
                client.post(call.url, content=call.body, headers=dict(call.headers)).raise_for_status()

    def _cpu_s(self) -> float:
        return sum(cpu_s(process.pid) for process in self.site.processes.running.values())

    def _call(self, request: str) -> load.Call:
        bearer = {"Authorization": f"Bearer {self._api_key}"}
        is_json = {"Content-Type": "application/json"}
        event: dict[str, Any] = {"name": "bench/happened", "data": {"number": 1}}
        if request == "healthz":
            return load.Call(url=f"{self._base}/healthz", headers={})
        if request == "get_run":
            run_id = services.trigger(self.site.organization, "five-effects").run_ids[0]
            self.site.await_idle()
            return load.Call(url=f"{self._base}/api/runs/{run_id}", headers=bearer)
        if request == "run":
            url = f"{self._base}/api/workflows/one-effects/run"
            body = json.dumps({"triggerData": {"number": 1}})
            return load.Call(url=url, method="POST", body=body, headers={**bearer, **is_json})
        body = json.dumps([event] * 100 if request == "events_100" else event)
        return load.Call(url=f"{self._base}/e/{self._event_key}", method="POST", body=body, headers=is_json)

    def stream(self, *, count: int, pause_ms: float) -> list[dict[str, float]]:
        """Runs of five steps as a client sees them that posts and listens: milliseconds from its request to the answer,
        and to the message that the run has ended."""
        self.start()
        ends: dict[str, float] = {}
        came = threading.Condition()
        client = httpx.Client(base_url=self._base, headers={"Authorization": f"Bearer {self._api_key}"}, timeout=30)
        listener = threading.Thread(target=_listen, args=(self._base, self._api_key, ends, came), daemon=True)
        listener.start()
        time.sleep(1.0)
        found = []
        for _ in range(count):
            time.sleep(pause_ms / 1e3)
            called = time.time()
            run_id = client.post("/api/workflows/five-effects/run", json={}).raise_for_status().json()["runId"]
            answered = time.time()
            _await_end(run_id, ends, came)
            created, ended = self.site.times_of(run_id)
            spent = {
                "answer_ms": answered - called,
                "told_ms": ends[run_id] - called,
                "after_end_ms": ends[run_id] - ended,
                "http_own_ms": ended - created,
            }
            found.append({name: value * 1e3 for name, value in spent.items()})
        client.close()
        return found


def _await_end(run_id: str, ends: dict[str, float], came: threading.Condition) -> None:
    with came:
        if not came.wait_for(lambda: run_id in ends, timeout=20):
            raise RuntimeError("the stream told no end of the run")


def _listen(base: str, key: str, ends: dict[str, float], came: threading.Condition) -> None:
    with (
        httpx.Client(timeout=None) as client,
        client.stream("GET", f"{base}/api/stream", headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == "run-status":
                told = json.loads(line.removeprefix("data: "))
                if told.get("status") == "completed":
                    with came:
                        ends.setdefault(told["executionId"], time.time())
                        came.notify_all()
