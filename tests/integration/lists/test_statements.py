"""Every page of the dashboard takes as many statements for many rows as for few."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from dlq import services as letters
from dlq.models import Alert, AlertChannel, AlertNotification, AlertRule, DeadLetter
from tests.integration.dashboard.people import operator_of_all
from tests.support.by_hand import claim, end, fail
from tests.support.pages.statements import counted, repeated
from tests.support.pages.walked import PAGES
from tests.support.workers import leave_nothing, publish
from throttling.models import ThrottleOverride
from workflows import services
from workflows.models import (
    BulkOperation,
    CronFire,
    Flow,
    Membership,
    Organization,
    StepRun,
    Wait,
    Worker,
)
from workflows.services import access_keys, bulk, events, limits
from workflows.services.own import examples, views

FEW, MANY = 3, 12
NOW = timezone.now()
AT_ONCE = [{"id": "a", "type": "noop", "throttling": {"concurrency": 9}}, {"id": "b", "type": "noop"}]
ASKS = [{"id": "ok", "type": "wait_for_approval", "config": {"title": "Ship it?", "timeout": "2h"}}]
BY_PIECES = {"runs-search": "What no index knows is read piece by piece: so many rows, or so long."}
EXTRAS = {
    "more-runs": "/?columns=flow,status,tags,error",
    "archived": "/flows/?archived=true",
    "keys-ended": "/keys/?ended=true",
    "new-flow-limits": "/flows/one-0/?tab=limits",
    "cause-of-many": "/letters/causes/{cause_of_many}/",
    "events-sent": "/test/events/sent/?ids={sent}",
    "steps": "/runs/{wide}/",
    "steps-compared": "/runs/{wide_too}/compare/",
}
"""Addresses whose rows are of one thing that gets longer, or that the walk opens otherwise."""


class World:
    """An organization in which there are ever more of everything."""

    def __init__(self, org: Organization) -> None:
        self.org, self.size = org, 0
        self.client = operator_of_all(org)
        self.user = User.objects.get(pk=int(self.client.session["_auth_user_id"]))
        hour = dt.timedelta(hours=1)
        self.places = {"hour_ago": f"{NOW - hour:%Y-%m-%dT%H:%M:%SZ}", "hour_on": f"{NOW + hour:%Y-%m-%dT%H:%M:%SZ}"}
        for slug in ("checkout", "transfer", "walked"):
            publish(org, AT_ONCE, slug=slug)

    def grow(self, size: int) -> None:
        """Make more, until there are so many."""
        for number in range(self.size, size):
            self._flow(number)
            self._people(number)
            self._runs(number)
            self._operations(number)
            self._alerts(number)
        self._of_one_flow(self.size, size)
        self.size = size
        steps = [{"id": f"s{number}", "type": "noop", "needs": []} for number in range(size)]
        for name in ("wide", "wide_too"):
            run_id = services.trigger(self.org, publish(self.org, steps, slug="wide")).run_ids[0]
            end(*[claim(run_id, each["id"]) for each in steps])
            self.places[name] = str(run_id)

    def _flow(self, number: int) -> None:
        on = [{"event": f"on/{number}"}, {"event": "order/*"}, {"cron": f"{number} 3 * * *"},
              {"webhook": "standard", "name": f"hook.{number}", "secret": f"HOOK_{number}"}]  # fmt: skip
        publish(self.org, AT_ONCE, slug=f"one-{number}", on=on)
        flow = Flow.objects.get(organization=self.org, slug=f"one-{number}")
        CronFire.objects.create(
            org_id=self.org.id, flow=flow, schedule=f"{number} 3 * * * UTC", outcome="missed", fire_at=NOW
        )
        gone = publish(self.org, AT_ONCE, slug=f"gone-{number}")
        Flow.objects.filter(organization=self.org, slug=gone).update(archived_at=NOW)
        events.put_schema(self.org, f"on/{number}", {"type": "object"})
        override = ThrottleOverride(scope="limit", org_id=self.org.id, name=f"shared-{number}", concurrency=5)
        limits.put_limit(override, by=f"user-{number}")

    def _people(self, number: int) -> None:
        user = User.objects.create_user(f"m{number}-{uuid.uuid4().hex[:8]}")
        Membership.objects.create(organization=self.org, user=user, role="viewer")
        key, _ = access_keys.issue(self.org, "api", f"key-{number}", as_operator=True)
        access_keys.rotate(self.org, key.id, as_operator=True)
        self.client.post("/secrets/", {"name": f"SECRET_{number}", "value": "a long enough value"})
        views.save(self.org, self.user.pk, f"view-{number}", "status=failed")
        examples.remember(self.org, self.user.pk, kind="flow", name="walked", text=f'{{"n": {number}}}')
        examples.remember(self.org, self.user.pk, kind="event", name="", text=f'{{"name": "n/{number}"}}')
        Worker.objects.create(
            id=uuid.uuid4(), name=f"st-{number}", queues=["headrace.io"], slots=1, active=0, unclaimed=0, started_at=NOW,
            seen_at=timezone.now(),
        )  # fmt: skip

    def _runs(self, number: int) -> None:
        key = f"a{number}" if number else "divides"
        steps = [{"id": key, "type": "noop"}]
        slug = publish(self.org, steps, slug=f"fails-{number}")
        end(claim(services.trigger(self.org, slug).run_ids[0], key))
        failed = services.trigger(self.org, slug, tags=["nightly"]).run_ids[0]
        fail(failed, key)
        letter = DeadLetter.objects.get(run_id=failed)
        letters.comment(self.org, letter.group_id, text=f"Comment {number}", by="anna")
        limited = services.trigger(self.org, f"one-{number}", delay="1h").run_ids[0]
        waits = services.trigger(self.org, publish(self.org, ASKS, slug=f"asks-{number}")).run_ids[0]
        claim(waits, "ok")
        step = StepRun.objects.get(run_id=waits, key="ok")
        Wait.objects.create(
            step_run_id=step.id, org_id=self.org.id, run_id=waits, kind="approval", since=NOW, created_at=NOW,
            options={"title": "Ship it?", "message": "", "approvers": []},
        )  # fmt: skip
        StepRun.objects.filter(id=step.id).update(
            status="waiting", waiting_for="approval", lease_token=None, lease_until=None
        )
        sent = services.send_events(self.org, [{"name": f"on/{number}"}, {"name": f"none/{number}"}])
        for name, id_ in (("failed", failed), ("limited", limited), ("waits", waits), ("letter", letter.id),
                          ("approval", step.id), ("cause", letter.group_id), ("event", sent[0]), ("unheard", sent[1])):  # fmt: skip
            self.places.setdefault(name, str(id_))
        self.places["sent"] = ",".join([self.places.get("sent", ""), str(sent[0])]).strip(",")

    def _operations(self, number: int) -> None:
        for name, action, where in (
            ("operation", "cancel_runs", {"flow": f"one-{number}"}),
            ("letters_operation", "ignore_dead_letters", {"group": self.places["cause"]}),
        ):
            row = bulk.draft(self.org, action, where, by="anna")
            row.status = "stopped"
            row.problems = [{"id": str(uuid.uuid4()), "reason": "It was refused."}] * (number + 1)
            row.save(force_insert=True)
            self.places.setdefault(name, str(row.id))

    def _alerts(self, number: int) -> None:
        rule = AlertRule.objects.create(
            name=f"st-{number}-{uuid.uuid4().hex[:6]}", metric="zombies", threshold=1e6, org_id=self.org.id
        )
        channel = AlertChannel(name=f"st-{number}-{uuid.uuid4().hex[:6]}", org_id=self.org.id)
        channel.url = "json://localhost:1/"
        channel.save()
        for ended in (None, NOW):
            alert = Alert.objects.create(
                org_id=self.org.id, rule=rule, severity="info", title="t", message="m", fired_at=NOW, seen_at=NOW,
                recovered_at=ended,
            )  # fmt: skip
            AlertNotification.objects.create(alert=alert, channel=channel.name, kind="fired", due_at=NOW)

    def _of_one_flow(self, size: int, wanted: int) -> None:
        """More versions, triggers, runs and repairs of one flow, more letters of one cause."""
        for number in range(size, wanted):
            on = [{"event": f"v/{each}"} for each in range(number + 1)] + [
                {"cron": f"{each} 4 * * *"} for each in range(number + 1)
            ]
            steps = [*AT_ONCE, {"id": f"c{number}", "type": "noop", "throttling": {"concurrency": number + 1}}]
            publish(self.org, steps, slug="checkout", on=on)
            publish(self.org, [{"id": "a", "type": "noop"}], slug="fails")
            run_id = services.trigger(self.org, "fails").run_ids[0]
            fail(run_id)
            if "cause_of_many" not in self.places:
                self.places["cause_of_many"] = str(DeadLetter.objects.get(run_id=run_id).group_id)

    def statements(self, path: str) -> Counter[str]:
        """Those of a page, after what a process reads once."""
        address = path.format_map(self.places)
        self.client.get(address)
        with counted() as found:
            answer = self.client.get(address)
        assert answer.status_code == 200, (address, answer.status_code, answer.headers.get("Location"))
        return found


@pytest.fixture
def world(org: Organization, published: list[object], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(limits, "MAX_CHANGES", 1_000)
    made = World(org)
    yield made
    BulkOperation.objects.filter(org_id=org.id).update(status="completed", ended_at=NOW)
    Wait.objects.filter(org_id=org.id).delete()
    Worker.objects.filter(name__startswith="st-").delete()
    for model in (Alert, AlertChannel, AlertRule):
        model._default_manager.filter(org_id=org.id).delete()
    leave_nothing(org)


def test_no_page_of_the_dashboard_asks_once_for_each_of_its_rows(world: World) -> None:
    paths = {name: shown.path for name, shown in PAGES.items() if name not in {"login", *BY_PIECES}} | EXTRAS
    world.grow(FEW)
    (limit,) = (world.client.get("/limits/").context["groups"][0][1][0]["url"],)
    world.places["limit"] = f"/limits/one/{limit}"
    few = {name: world.statements(path) for name, path in paths.items()}
    world.grow(MANY)
    many = {name: world.statements(path) for name, path in paths.items()}
    wrong = {name: found for name in paths if (found := repeated(few[name], many[name]))}
    assert not wrong, "\n".join(f"{name}: {sql[:700]}" for name, found in wrong.items() for sql in found)
