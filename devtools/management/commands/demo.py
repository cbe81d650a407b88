"""`demo`: start everything, run the examples, show what came of them, stop everything."""

from __future__ import annotations

import json
import os
import time
from typing import Any
from uuid import UUID

import httpx
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from config import env
from devtools import code_demonstration, embedded, instance
from devtools.code_demonstration import CodeDemonstration
from devtools.demonstrations import EXAMPLES, REPAIRED, STARTED_BY_EVENT, Example
from devtools.processes import Ports, ProcessGroup, StartError
from dlq.models import DeadLetter
from examples.python.outside import Outside
from workflows import presenters, selectors
from workflows.management.commands.trigger import steps_table
from workflows.models import Organization, Run

PATIENCE_S = 180
PRIVATE = {
    "HEADRACE_FLOW_MODULES": "examples.python",
    "HEADRACE_SIZE": "4gb",
    "HEADRACE_GLOBAL_CONCURRENCY": "20",
    "HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS": "1000",
}
"""Of the instance of the demo, unless the environment says otherwise: with the shipped limits, which are cautious, its
starts would take minutes."""


class Command(BaseCommand):
    help = "Run the examples on a private instance and check every outcome (var/demo.json)."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, value in PRIVATE.items():
            os.environ.setdefault(name, value)
        services = embedded.use() or embedded.current()
        ports = Ports.any_free()
        credentials = instance.prepare(
            base_url=f"http://127.0.0.1:{ports.web}", example_server=f"http://127.0.0.1:{ports.examples}"
        )
        group = ProcessGroup(
            settings.VAR_DIR, ports, f"{credentials.username}:{credentials.password}", self.stdout.write
        )
        try:
            self.stdout.write("starting web, workers, beat and Flower …")
            group.start()
            report = self._run_all(credentials)
        except StartError as error:
            raise CommandError(str(error)) from None
        finally:
            group.stop()
            if services is not None:
                services.release()
        target = env.BASE_DIR / "var" / "demo.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=2) + "\n")
        self.stdout.write(f"written to {target}")
        if not report["ok"]:
            raise CommandError("An outcome is not the expected one: " + "; ".join(report["problems"]))
        self.stdout.write(self.style.SUCCESS(f"All {len(report['runs'])} outcomes are as expected."))

    def _run_all(self, credentials: instance.Credentials) -> dict[str, Any]:
        organization = Organization.objects.get(slug="default")
        code_demonstration.prepare(organization, Outside(organization.secrets.get(name="SERVICES_URL").value))
        known = set(Run.objects.filter(flow__slug=STARTED_BY_EVENT[0]).values_list("id", flat=True))
        started = [(example, self._start(credentials, example)) for example in EXAMPLES]
        of_code = CodeDemonstration(organization, credentials, lambda example: self._start(credentials, example))
        of_code.play()
        for _, run_id in started:
            self._await(organization, run_id)
        followers = self._followers(known)
        problems: list[str] = []
        runs = []
        for example, run_id in [*started, *((Example(flow=STARTED_BY_EVENT[0], data={}), each) for each in followers)]:
            detail = self._await(organization, run_id)
            Console(file=self.stdout, soft_wrap=True).print(steps_table(detail), "")  # type: ignore[arg-type]
            problems.extend(_problems(example, detail))
            runs.append(_report(example, detail))
        if len(followers) != STARTED_BY_EVENT[1]:
            problems.append(f"{STARTED_BY_EVENT[0]} was started {len(followers)} times, not {STARTED_BY_EVENT[1]}")
        table, of_python = of_code.outcomes()
        Console(file=self.stdout, soft_wrap=True, width=140).print(table, "")  # type: ignore[arg-type]
        runs += of_python
        problems += of_code.problems
        problems.extend(self._repair(organization, credentials, [run_id for _, run_id in started]))
        return {"ok": not problems, "problems": problems, "runs": runs}

    def _repair(self, organization: Organization, credentials: instance.Credentials, run_ids: list[UUID]) -> list[str]:
        """What has failed is dead letters; the one of the order is resumed with an edited payload."""
        call_command("dlq", "groups", stdout=self.stdout)
        letter = DeadLetter.objects.filter(run_id__in=run_ids, step_key=REPAIRED[0], status="failed").first()
        if letter is None:
            return [f"there is no dead letter of {REPAIRED[0]}"]
        answer = httpx.post(
            f"{credentials.base_url}/api/dlq/{letter.id}/replay",
            json={"mode": "resume", "input": {**letter.event_data, **REPAIRED[1]}},
            headers={"authorization": f"Bearer {credentials.api_key}"},
            timeout=10,
        )
        if answer.status_code != 202:
            return [f"the dead letter could not be replayed: {answer.status_code} {answer.text}"]
        detail = self._await(organization, UUID(answer.json()["runId"]))
        self.stdout.write(f"\nthe dead letter of {REPAIRED[0]}, resumed with an edited payload:")
        Console(file=self.stdout, soft_wrap=True).print(steps_table(detail), "")  # type: ignore[arg-type]
        return [] if detail.run.status == "completed" else [f"the repaired run is {detail.run.status}"]

    def _start(self, credentials: instance.Credentials, example: Example) -> UUID:
        answer = httpx.post(
            f"{credentials.base_url}/api/workflows/{example.flow}/run",
            json={"triggerData": example.data, "force": True},
            headers={"authorization": f"Bearer {credentials.api_key}"},
            timeout=10,
        )
        if answer.status_code != 202:
            raise CommandError(f"{example.flow}: {answer.status_code} {answer.text}")
        return UUID(answer.json()["runId"])

    def _await(self, organization: Organization, run_id: UUID) -> selectors.RunDetail:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            detail = selectors.run_detail(organization, run_id)
            if not detail.run.is_live or time.monotonic() > deadline:
                return detail
            time.sleep(0.2)

    def _followers(self, known: set[UUID]) -> list[UUID]:
        slug, count = STARTED_BY_EVENT
        deadline = time.monotonic() + 20
        while True:
            found = [
                run_id
                for run_id in Run.objects.filter(flow__slug=slug).order_by("id").values_list("id", flat=True)
                if run_id not in known
            ]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def _problems(example: Example, detail: selectors.RunDetail) -> list[str]:
    found = []
    name = f"{example.flow} {example.data.get('taskId', '')}".strip()
    if detail.run.status != example.expected:
        found.append(f"{name} is {detail.run.status}, expected {example.expected}")
    by_key = {step.step_run.key: step for step in detail.steps}
    for key, attempts in example.attempts.items():
        if len(by_key[key].attempts) != attempts:
            found.append(f"{name}: {key} took {len(by_key[key].attempts)} tries, expected {attempts}")
    for key, status in example.statuses.items():
        if by_key[key].step_run.status != status:
            found.append(f"{name}: {key} is {by_key[key].step_run.status}, expected {status}")
    return found


def _report(example: Example, detail: selectors.RunDetail) -> dict[str, Any]:
    steps = [presenters.step_out(step) for step in detail.steps]
    return {
        "flow": example.flow,
        "status": detail.run.status,
        "expected": example.expected,
        "duration_ms": presenters.ms(detail.run.created_at, detail.run.ended_at),
        "steps": [
            {
                "id": step["id"],
                "type": step["type"],
                "status": step["status"],
                "attempts": len(step["attempts"]),
                "duration_ms": step["duration"],
            }
            for step in steps
        ],
    }
