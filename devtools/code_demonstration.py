"""The part of `demo` that runs the flows in Python: on the workers of the demo, with real input, each outcome
checked."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
from rich.table import Table

from devtools.demonstrations import CODE_EXAMPLES, FOLLOWERS, REPORT, SENT_EVENTS, Example
from devtools.instance import Credentials
from examples.python.campaigns import poll_job_status
from examples.python.outside import Outside
from workflows import presenters, selectors
from workflows.functions import publish
from workflows.management.output import table as new_table
from workflows.models import Organization, Run, Secret, StepRun, Trigger
from workflows.templatetags.headrace import duration

STRIPE_KEY = "whsec_of_the_demo"  # made up, and good for this instance only
COLOURS = {"completed": "green", "failed": "red"}
PATIENCE_S = 60


def prepare(organization: Organization, outside: Outside) -> None:
    """Publish the flows, and give the outside world what they ask for."""
    secret = Secret.objects.filter(organization=organization, name="STRIPE_WEBHOOK_SECRET").first()
    secret = secret or Secret(organization=organization, name="STRIPE_WEBHOOK_SECRET")
    secret.value = STRIPE_KEY
    secret.save()
    publish.publish(organization)
    outside.upsert("campaigns", {"id": "spring", "subject": "Spring", "content": "<p>…</p>", "listId": "all"})
    outside.upsert(
        "email_subscribers",
        *({"id": f"s-{n}", "email": f"s{n}@example.org", "list_id": "all", "status": "active"} for n in range(120)),
    )


class CodeDemonstration:
    """The runs of the flows in Python, and what came of them. `start_run` starts one by the API."""

    def __init__(
        self, organization: Organization, credentials: Credentials, start_run: Callable[[Example], UUID]
    ) -> None:
        self._organization, self._credentials = organization, credentials
        self._known = set(Run.objects.filter(org_id=organization.id).values_list("id", flat=True))
        self._started = [(example, start_run(example)) for example in CODE_EXAMPLES]
        self.problems: list[str] = []

    def play(self) -> None:
        """Send events, deliver a webhook, poll a job, and approve what waits for it."""
        base = self._credentials.base_url
        with httpx.Client(base_url=base, timeout=10, headers=self._authorization()) as client:
            sent = client.post(f"/e/{self._credentials.event_key}", json=[*SENT_EVENTS, self._report_event()])
            self._deliver_webhook(client)
            self._poll(client, sent.raise_for_status().json()["ids"][-1])
            self._approve(client)

    def outcomes(self) -> tuple[Table, list[dict[str, Any]]]:
        """What came of all runs, once they have ended: a table for people, and the same for programs."""
        heads = ("flow", "status", "steps", "duration", "output")
        table = new_table(*heads, title="flows in Python")
        rows = [self._row(table, example, run_id) for example, run_id in self._started]
        for slug, count in FOLLOWERS:
            followers = self._followers(slug, count)
            if len(followers) != count:
                self.problems.append(f"{slug} was started {len(followers)} times, not {count}")
            rows += [self._row(table, Example(flow=slug, data={}), run_id) for run_id in followers]
        return table, rows

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._credentials.api_key}"}

    def _report_event(self) -> dict[str, Any]:
        return {"name": "report/generate", "data": REPORT}

    def _deliver_webhook(self, client: httpx.Client) -> None:
        """What Stripe would send."""
        token = Trigger.objects.get(organization=self._organization, flow__slug="stripe-webhook").token
        payload = {"id": f"evt_{time.time_ns()}", "type": "payment_intent.succeeded"}
        body = json.dumps({**payload, "data": {"object": {"metadata": {"orderId": "order-1"}}}}).encode()
        stamp = str(int(time.time()))
        signature = hmac.new(STRIPE_KEY.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {"stripe-signature": f"t={stamp},v1={signature}", "content-type": "application/json"}
        answer = client.post(f"/hooks/{token}", content=body, headers=headers)
        if answer.json() != {"received": True}:
            self.problems.append(f"the webhook was answered {answer.status_code} {answer.text}")

    def _poll(self, client: httpx.Client, job_id: str) -> None:
        *_, last = poll_job_status(client, job_id, every_s=0.2, patience_s=PATIENCE_S)
        if last["state"] != "completed":
            self.problems.append(f"the job {job_id} of the report is {last['state']}: {last['error']}")

    def _approve(self, client: httpx.Client) -> None:
        """The run that create-workflow has started waits for an approval, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE_S
        mine = Run.objects.filter(org_id=self._organization.id, flow__slug="next-workflow").exclude(id__in=self._known)
        while not (run := mine.first()) or not StepRun.objects.filter(run_id=run.id, status="waiting").exists():
            if time.monotonic() > deadline:
                self.problems.append("next-workflow does not wait for its approval")
                return
            time.sleep(0.2)
        data = {"workflowId": run.input["workflowId"], "by": "the demo"}
        client.post(f"/e/{self._credentials.event_key}", json={"name": "workflow/approved", "data": data})

    def _followers(self, slug: str, count: int) -> list[UUID]:
        """The runs of a flow that this demo has caused."""
        deadline = time.monotonic() + PATIENCE_S
        mine = Run.objects.filter(org_id=self._organization.id, flow__slug=slug).exclude(id__in=self._known)
        while mine.count() < count and time.monotonic() < deadline:
            time.sleep(0.2)
        return list(mine.order_by("id").values_list("id", flat=True))

    def _row(self, table: Table, example: Example, run_id: UUID) -> dict[str, Any]:
        detail = self._await(run_id)
        run, output = detail.run, detail.run.output
        steps = StepRun.objects.filter(run_id=run_id, path="main").count()
        shown = json.dumps(output) if run.status == "completed" else (run.error or {}).get("message", "")
        colour = COLOURS.get(run.status, "yellow")
        took = presenters.ms(run.created_at, run.ended_at)
        table.add_row(example.flow, f"[{colour}]{run.status}[/]", str(steps), duration(took), shown[:60])
        if run.status != example.expected:
            self.problems.append(f"{example.flow} is {run.status}, expected {example.expected}: {run.error}")
        elif wrong := {name: value for name, value in example.output.items() if (output or {}).get(name) != value}:
            self.problems.append(f"{example.flow} gives {output}, expected {wrong}")
        return {
            "flow": example.flow, "status": run.status, "expected": example.expected, "duration_ms": took,
            "steps": steps, "output": output,
        }  # fmt: skip

    def _await(self, run_id: UUID) -> selectors.RunDetail:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            detail = selectors.run_detail(self._organization, run_id)
            if not detail.run.is_live or time.monotonic() > deadline:
                return detail
            time.sleep(0.1)
