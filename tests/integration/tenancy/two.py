"""Two organizations with one of everything each, and who looks at one of them: by key, in a browser, in the admin."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from dlq.models import Alert, AlertChannel, AlertRule
from tests.integration.admin.world import NOOP, ROWS, World
from tests.support.admin_site import staff
from tests.support.workers import publish
from throttling.models import ThrottleChange, ThrottleOverride
from workflows.models import (
    AccessKey,
    BulkOperation,
    Event,
    EventSchema,
    Membership,
    ObservedTask,
    Organization,
    Secret,
    StepRun,
    Trigger,
    Wait,
)
from workflows.services import bulk, limits, pauses
from workflows.services.access import audit
from workflows.services.own import examples, views

JSON = "application/json"


class Tenant(World):
    """An organization with one of everything, each under a name that no other one has."""

    def __init__(self) -> None:
        super().__init__()
        mark = uuid.uuid4().hex[:12]
        self.flow_slug = f"own-{mark}"
        publish(
            self.org, NOOP, slug=self.flow_slug, on=[{"webhook": "none", "name": f"hook/{mark}"}, {"cron": "7 4 * * *"}]
        )
        letter = self.letter()
        self.step = StepRun.objects.filter(run_id=self.run_id).get()
        self.wait = ROWS[Wait](self)
        self.schema = ROWS[EventSchema](self)
        self.event = Event.objects.create(
            org_id=self.org.id, name=f"own/{mark}", data={}, ts=timezone.now(), matched_at=timezone.now()
        )
        self.observed = ROWS[ObservedTask](self)
        self.running = self.operation("stopped")
        self.alert = Alert.objects.create(
            org_id=self.org.id, rule=AlertRule.objects.get(name="zombies"), severity="info", title=f"alert {mark}",
            message="m", fired_at=timezone.now(), seen_at=timezone.now(), recovered_at=timezone.now(),
        )  # fmt: skip
        limits.put_limit(
            ThrottleOverride(scope="limit", name=f"limit-{mark}", org_id=self.org.id, concurrency=5), by="test"
        )
        pauses.stop(pauses.flow(self.org, self.flow_slug), by="test")
        ThrottleChange.objects.filter(org_id=self.org.id).update(at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        trigger = Trigger.objects.get(flow__slug=self.flow_slug, kind="webhook")
        token = trigger.token
        started = bulk.start(self.org, "ignore_dead_letters", {"search": mark}, by="me", options={"reason": "x"})
        BulkOperation.objects.filter(id=started.id).update(status="stopped")
        self.letters_operation = str(started.id)
        self.member = f"member-{mark}"
        self.known = {
            "run_id": str(self.run_id), "reference": str(self.run_id), "slug": self.flow_slug, "key": self.step.key,
            "what": "input", "step_run_id": str(self.step.id), "operation_id": str(self.running.id),
            "name": self.schema.name, "event_id": str(self.event.id), "task_id": self.observed.id,
            "group": str(letter.group_id), "letter_id": str(letter.id), "mode": "pause", "token": token,
            "group_id": str(letter.group_id), "trigger_id": str(trigger.id), "kind": "csv", "action": "cancel", "verb": "resume",
        }  # fmt: skip
        self.wait_id = str(self.wait.step_run_id)
        self._give_people_and_keys(mark, trigger, token)

    def _give_people_and_keys(self, mark: str, trigger: Trigger, token: str) -> None:
        """Keys, members, saved views and audit entries of the organization; and all that is its own, as `marks`."""
        self.marks = {
            str(self.org.id), self.org.slug, self.flow_slug, str(self.run_id), str(self.step.id), self.schema.name,
            str(self.event.id), self.event.name, self.observed.id, self.known["letter_id"], self.known["group"], self.wait_id,
            str(self.running.id), str(self.alert.id), self.alert.title, str(self.flow.id), token, self.member, f"limit-{mark}",
        }  # fmt: skip
        Organization.objects.filter(id=self.org.id).update(events_per_s=1_000_000)
        self.api_key = AccessKey.issue(self.org, "api", f"key {mark}")[1]
        self.event_key = AccessKey.issue(self.org, "event", f"key {mark}")[1]
        self.by_key = Client(headers={"authorization": f"Bearer {self.api_key}"}, raise_request_exception=False)
        self.in_browser = staff(of=self.org, role="admin")
        mine = self.in_browser.session["_auth_user_id"]
        self.view = views.save(self.org, int(mine), f"view-{mark}", "status=failed")
        examples.remember(self.org, int(mine), kind="flow", name=self.flow_slug, text=f'{{"tried": "{mark}"}}')
        self.rule, self.channel = ROWS[AlertRule](self), ROWS[AlertChannel](self)
        self.known["view_id"], self.known["channel_id"] = str(self.view.id), str(self.channel.pk)
        self.marks |= {self.rule.name, self.channel.name}
        hour, now = dt.timedelta(hours=1), timezone.now()
        self.known |= {"limit_name": f"limit-{mark}", "hour_ago": f"{now - hour:%Y-%m-%dT%H:%M:%SZ}",
                       "hour_on": f"{now + hour:%Y-%m-%dT%H:%M:%SZ}"}  # fmt: skip
        self.known |= {"key_id": str(AccessKey.issue(self.org, "api", f"spare {mark}")[0].id), "subject": "events"}
        self.known["secret_name"] = ROWS[Secret](self).name
        audit.record(self.org.id, audit.of_command(), "own.entry", kind="entry", id=mark)
        self.marks |= {
            str(self.view.id),
            self.view.name,
            self.known["secret_name"],
            self.letters_operation,
            str(trigger.id),
            mark,
        }
        colleague = User.objects.create_user(self.member)
        Membership.objects.create(organization=self.org, user=colleague, role="viewer")

    def values(self, route: str) -> dict[str, str]:
        """What stands for the parameters of a route."""
        if "approvals" in route:
            return {**self.known, "step_run_id": self.wait_id}
        others = {
            "/replay/": {"mode": "start"},
            "/triggers/": {"mode": "off"},
            "operations/<operation_id>/<what>/": {"what": "resume"},
            "letters/bulk/": {"operation_id": self.letters_operation},
            "alerts/rules/": {"name": self.rule.name, "verb": "off"},
            "alerts/channels/": {"channel_id": str(self.channel.pk), "verb": "off"},
            "workers/organization/": {"verb": "pause"},
            "api/secrets/": {"name": self.known["secret_name"]},
        }
        return {
            **self.known,
            **{name: value for part, more in others.items() if part in route for name, value in more.items()},
        }

    def fingerprint(self) -> dict[str, str]:
        """By table, a digest of all rows of the organization: whoever changes one of them changes it."""
        found = {}
        with connection.cursor() as cursor:
            for table, column in owned_tables():
                cursor.execute(
                    f'SELECT md5(string_agg(t::text, \'|\' ORDER BY t::text)) FROM "{table}" t WHERE t."{column}" = %s',
                    [self.org.id],
                )
                (digest,) = cursor.fetchone() or ("",)
                found[table] = digest or ""
        return found


UNWATCHED = {
    "headrace_workflows_accesskey", "headrace_workflows_celerytask", "headrace_workflows_storedbytes",
    "headrace_workflows_minutecounts",
}  # fmt: skip
"""Tables whose rows change by themselves: of a key when it was used last, of a Celery task by whoever watches it, of
stored bytes when they are measured, of minutes when a leader has counted them."""


def owned_tables() -> Iterator[tuple[str, str]]:
    """The tables whose rows name their organization, and the column that does."""
    for model in apps.get_models():
        if model._meta.db_table in UNWATCHED:
            continue
        for field in model._meta.concrete_fields:
            if field.column in {"org_id", "organization_id"}:
                yield model._meta.db_table, field.column


# --- addresses --------------------------------------------------------------------------------------------------------


def patterns(found: Any = None, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    """The routes of all URL patterns, with their parameters as `<name>`: `api/runs/<run_id>`."""
    for each in get_resolver().url_patterns if found is None else found:
        route = before + str(each.pattern).replace("^", "").replace("$", "")
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns, route)
        else:
            yield _plain(route), each


def _plain(route: str) -> str:
    pieces = route.split("<")
    return pieces[0] + "".join(f"<{piece.partition(':')[2] or piece}" if ":" in piece.partition(">")[0] else f"<{piece}"
                               for piece in pieces[1:])  # fmt: skip


def parameters(route: str) -> list[str]:
    return [piece.partition(">")[0] for piece in route.split("<")[1:]]


def address(route: str, values: dict[str, str]) -> str:
    """The address of a route. Raises KeyError for a parameter that the test does not know."""
    for name in parameters(route):
        route = route.replace(f"<{name}>", values[name])
    return f"/{route}"


def text_of(answer: Any) -> str:
    """The body of an answer, and where it sends to."""
    if answer.streaming and "attachment" in answer.headers.get("Content-Disposition", ""):
        return b"".join(answer.streaming_content).decode()
    if answer.streaming:
        answer.close()
        return ""
    return str(answer.content.decode(errors="replace")) + str(answer.headers.get("Location", ""))


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    """A request; a body that is a dictionary goes as JSON, one that is a list of pairs as a form."""
    if isinstance(body, list):
        return client.post(path, dict(body))
    return client.generic(method.upper(), path, json.dumps(body) if body is not None else "", content_type=JSON)
