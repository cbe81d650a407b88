"""What the scripts share: the running instance by its public API, and checks that count."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
EVENT = "demo/task.requested"


class Stack:
    """The instance that `make up` runs, or the one at an address; its keys are those that `up` printed."""

    def __init__(self, address: str = "") -> None:
        var = Path(os.environ.get("HEADRACE_VAR_DIR") or ROOT / "var")
        try:
            keys = json.loads((var / "credentials.json").read_text())
        except OSError:
            sys.exit(f"There is no {var / 'credentials.json'}: start the instance with `make up` first.")
        self.address = (address or keys["baseUrl"]).rstrip("/")
        self._event_key = keys["eventKey"]
        self._http = httpx.Client(
            base_url=self.address, headers={"authorization": f"Bearer {keys['apiKey']}"}, timeout=30
        )

    def get(self, path: str, **query: Any) -> Any:
        answer = self._http.get(f"/api{path}", params=query)
        if answer.status_code != 200:
            sys.exit(f"GET /api{path}: {answer.status_code} {answer.text}")
        return answer.json()

    def send(self, tasks: Sequence[dict[str, Any]], *, event: str = EVENT) -> list[str]:
        """Send an event for each task, all in one request; the ids of the events."""
        answer = self._http.post(f"/e/{self._event_key}", json=[{"name": event, "data": task} for task in tasks])
        if answer.status_code != 200:
            sys.exit(f"The events were refused: {answer.status_code} {answer.text}")
        ids: list[str] = answer.json()["ids"]
        return ids

    def runs_of(self, events: Sequence[str], **query: Any) -> list[dict[str, Any]]:
        """The runs that these events started, in the order of the list."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.get("/runs", limit=200, cursor=cursor, **query)
            found += [run for run in page["runs"] if run["eventId"] in set(events)]
            cursor = page["nextCursor"]
        return found

    def await_all(self, events: Sequence[str], patience_s: float, **query: Any) -> list[dict[str, Any]]:
        """The runs, once each event has one and all have ended (or time is up)."""
        until = time.monotonic() + patience_s
        while True:
            runs = self.runs_of(events, **query)
            ended = sum(1 for run in runs if run["endedAt"])
            if (len(runs) >= len(events) and ended == len(runs)) or time.monotonic() > until:
                return runs
            time.sleep(1)

    def steps(self, run_id: str) -> dict[str, dict[str, Any]]:
        """A run's steps by their ids."""
        return {step["id"]: step for step in self.get(f"/runs/{run_id}")["steps"]}


class Checks:
    """Says of each claim whether it holds."""

    def __init__(self) -> None:
        self.failed = 0

    def that(self, holds: object, claim: str, found: object = "") -> None:
        self.failed += not holds
        sys.stdout.write(f"  {'ok    ' if holds else 'FAILED'} {claim}{'' if holds else f'; found: {found}'}\n")
        sys.stdout.flush()

    def each(self, claim: str, rows: Sequence[Any], holds: Callable[[Any], object]) -> None:
        """A claim on all of some rows."""
        wrong = [row for row in rows if not holds(row)]
        self.that(rows and not wrong, claim, wrong[:3] or "nothing")

    def end(self) -> None:
        """Exit with 1 where a claim does not hold."""
        sys.stdout.write(f"{self.failed} claims do not hold\n" if self.failed else "All claims hold.\n")
        sys.exit(bool(self.failed))
