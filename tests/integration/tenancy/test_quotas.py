"""Quotas hold at every way in, over several processes, and harm nothing that runs."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tests.integration.tenancy.doors import NOOP, Doors
from tests.support.admin_site import staff
from tests.support.workers import await_that, publish
from throttling.errors import StoreUnavailable
from throttling.gate import Gate
from throttling.meters.meter import Meter
from throttling.models import ThrottleChange, ThrottleOverride
from workflows import services
from workflows.engine.intake.meters import meter
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput, TooManyChanges
from workflows.models import AccessKey, Event, IdempotencyKey, Organization, Run, Trigger
from workflows.selectors.tenancy import quotas as quota_selectors
from workflows.services import intake, limits
from workflows.services.tenancy import quotas
from workflows.services.tenancy.quotas import NO_QUOTA, TooManyEvents
from workflows.this_process.configuration import configuration


def test_a_meter_is_full_after_one_seconds_worth_and_counts_for_all_processes(live_db: None) -> None:
    gate = Gate(configuration().redis_url, prefix=configuration().redis_prefix)
    here, there, name = meter(), Meter(gate), uuid.uuid4().hex
    taken = [each.take(name, 1, 1).wait_s == 0 for each in (here, there, here)]
    assert taken == [True, False, False]
    assert 0 < there.look(name, 1).used <= 1
    gate.close()


def test_more_than_a_seconds_worth_is_taken_at_once_and_paid_for_afterwards(live_db: None) -> None:
    name = uuid.uuid4().hex
    assert meter().take(name, 10, 600).wait_s == 0
    assert 58 < meter().take(name, 10, 1).wait_s <= 60


def test_the_upkeep_of_the_gate_leaves_meters(live_db: None) -> None:
    name = uuid.uuid4().hex
    meter().take(name, 1, 500)
    admit.gate().sweep()
    assert meter().look(name, 1).used > 400


@pytest.mark.parametrize("door", ["event", "hook", "run"])
def test_above_the_events_of_a_second_each_door_says_when_to_come_again(tenant: Organization, door: str) -> None:
    doors = Doors(tenant)
    quotas.set_quotas(tenant, events_per_s=1, by="test")
    meter().take(tenant.id.hex, 1, 100)
    answer = getattr(doors, door)()
    assert (answer.status_code, 60 < int(answer["Retry-After"]) <= 100) == (429, True)
    said = answer.json().get("detail") or answer.json()["error"]
    assert "may bring 1 events and runs in a second" in said
    assert (Event.objects.filter(org_id=tenant.id).count(), Run.objects.filter(org_id=tenant.id).count()) == (0, 0)
    quotas.set_quotas(tenant, events_per_s=NO_QUOTA, by="test")
    assert getattr(doors, door)().status_code in {200, 202}


def test_an_array_counts_as_many_as_it_has(tenant: Organization) -> None:
    doors = Doors(tenant)
    quotas.set_quotas(tenant, events_per_s=5, by="test")
    assert doors.event(500).status_code == 200
    assert int(doors.run(1)["Retry-After"]) > 60
    assert quota_selectors.quotas(tenant)[0].is_reached


def test_where_nothing_is_counted_no_use_is_shown(tenant: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    quotas.set_quotas(tenant, events_per_s=5, by="test")
    assert quota_selectors.quotas(tenant)[0].used == 0
    monkeypatch.setattr(admit, "is_on", lambda: False)
    assert quota_selectors.quotas(tenant)[0].used is None


def test_an_unsigned_delivery_uses_nothing_of_the_quota(tenant: Organization) -> None:
    publish(tenant, NOOP, slug="signed", on=[{"webhook": "hmac", "name": "quota/signed", "secret": "NOT_STORED"}])
    quotas.set_quotas(tenant, events_per_s=1, by="test")
    token = Trigger.objects.get(flow__slug="signed", organization=tenant).token
    for _ in range(3):
        assert Client().post(f"/hooks/{token}", "{}", content_type="application/json").status_code in {401, 503}
    assert meter().look(tenant.id.hex, 1).used == 0


def test_the_quick_door_leaves_an_organization_with_a_quota_to_the_ordinary_way(tenant: Organization) -> None:
    doors = Doors(tenant)
    api_key = AccessKey.issue(tenant, "api", "q")[1]
    quick: list[Any] = []

    def ask() -> list[Any]:
        """What becomes of an event and of a run at the quick door; None: left."""
        quick.clear()
        assert intake.send_events(doors.event_key, {"name": "quota/quick"}, quick.append)
        assert intake.start_runs(api_key, "counted", [intake.PlainRun(input={})], quick.append)
        await_that(lambda: len(quick) == 2, 20)
        return [bool(each) for each in quick]

    assert ask() == [True, True]
    quotas.set_quotas(tenant, events_per_s=1_000, by="test")
    assert ask() == [False, False]
    quotas.set_quotas(tenant, events_per_s=NO_QUOTA, by="test")
    assert ask() == [True, True]
    Organization.objects.filter(id=tenant.id).update(is_full=True)
    assert ask() == [False, False]


@pytest.mark.parametrize("quota", ["events", "bytes"])
def test_a_repeat_of_a_stored_run_is_answered_with_its_id_above_a_quota(tenant: Organization, quota: str) -> None:
    """Who asks again because the answer was lost learns that the run is stored."""
    publish(tenant, [{"id": "a", "type": "noop"}], slug="keyed", idempotency="input.order")
    doors = Doors(tenant)

    def run(slug: str, body: Any) -> Any:
        return doors.keyed.post(f"/api/workflows/{slug}/run", json.dumps(body), content_type="application/json")

    one, by_flow = {"delay": "1h", "idempotencyKey": "one"}, {"delay": "1h", "triggerData": {"order": 7}}
    many = [{"delay": "1h", "idempotencyKey": f"many-{number}"} for number in range(3)]
    wanted = [("counted", one), ("keyed", by_flow), ("counted", many)]
    stored = [run(slug, body).json() for slug, body in wanted]
    if quota == "events":
        quotas.set_quotas(tenant, events_per_s=1, by="test")
        meter().take(tenant.id.hex, 1, 100)
    else:
        Organization.objects.filter(id=tenant.id).update(is_full=True)
    refused = 429 if quota == "events" else 507
    for (slug, body), before in zip(wanted, stored, strict=True):
        answer = run(slug, body)
        assert (answer.status_code, ids_of(answer.json())) == (202, ids_of(before))
    assert run("counted", {**one, "idempotencyKey": "two"}).status_code == refused
    assert run("counted", {**one, "force": True}).status_code == refused
    assert run("counted", [*many, {"delay": "1h"}]).status_code == refused
    assert run("nowhere", one).status_code == 404
    IdempotencyKey.objects.filter(org_id=tenant.id).update(expires_at=timezone.now())
    assert run("counted", one).status_code == refused, "the key stands for its run no longer"


def ids_of(answer: dict[str, Any]) -> list[str]:
    """The ids of the runs in the answer to a start."""
    return [str(value) for value in answer["runIds"]] if "runIds" in answer else [str(answer["runId"])]


@pytest.mark.parametrize("quota", ["events", "bytes"])
def test_the_test_pages_are_asked_for_too(tenant: Organization, quota: str) -> None:
    operator = staff(of=tenant, role="operator")
    sent = {"/test/": {"flow": "counted", "input": "{}"}, "/test/events/": {"events": '[{"name": "a"}, {"name": "b"}]'}}
    if quota == "events":
        quotas.set_quotas(tenant, events_per_s=1, by="test")
        meter().take(tenant.id.hex, 1, 100)
    else:
        Organization.objects.filter(id=tenant.id).update(is_full=True)
    for path, form in sent.items():
        page = operator.post(path, form)
        assert (page.status_code, f"The organization {tenant.slug}" in page.content.decode()) == (422, True)
    assert (Event.objects.filter(org_id=tenant.id).count(), Run.objects.filter(org_id=tenant.id).count()) == (0, 0)
    quotas.set_quotas(tenant, events_per_s=NO_QUOTA, by="test")
    Organization.objects.filter(id=tenant.id).update(is_full=False)
    assert [operator.post(path, form).status_code for path, form in sent.items()] == [302, 302]


def test_without_the_store_everything_is_taken_in(tenant: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(Meter, "take", away)
    quotas.set_quotas(tenant, events_per_s=1, by="test")
    assert [Doors(tenant).event().status_code for _ in range(3)] == [200] * 3
    assert quota_selectors.quotas(tenant)[0].used is None


def test_what_the_system_starts_is_not_asked_for(tenant: Organization) -> None:
    quotas.set_quotas(tenant, events_per_s=1, by="test")
    meter().take(tenant.id.hex, 1, 100)
    run_id = services.trigger(tenant, "counted", delay="1h").run_ids[0]
    services.cancel_run(tenant, run_id)
    answer = Doors(tenant).keyed.post(f"/api/runs/{run_id}/replay", "{}", content_type="application/json")
    assert answer.status_code == 202


# --- steps at once ----------------------------------------------------------------------------------------------------


def own_limit(org: Organization) -> int | None:
    row = limits.find_limit(org, "org")
    return row.concurrency if row is not None else None


def put(org: Organization, **values: Any) -> None:
    ThrottleChange.objects.filter(org_id=org.id).update(at="2026-01-01T00:00:00Z")
    limits.put_limit(ThrottleOverride(scope="org", org_id=org.id, **values), by="tenant", keep_weight=True)


def test_the_organizations_own_limit_can_not_be_above_its_quota(tenant: Organization) -> None:
    quotas.set_quotas(tenant, concurrent_steps=4, by="test")
    assert own_limit(tenant) == 4
    put(tenant, concurrency=2)
    assert own_limit(tenant) == 2
    with pytest.raises(InvalidInput, match="quota of 4 steps"):
        put(tenant, concurrency=5)
    with pytest.raises(InvalidInput, match="takes no key"):
        put(tenant, concurrency=3, key="event.data.customer")
    put(tenant, rate_limit=100, rate_period_ms=1_000)
    assert own_limit(tenant) == 4, "without one of its own, the quota holds"
    row = limits.find_limit(tenant, "org")
    limits.delete_limit(row, by="tenant", keep_weight=True)
    assert own_limit(tenant) == 4, "nor does a tenant delete it"
    put(tenant, concurrency=3)
    quotas.set_quotas(tenant, concurrent_steps=2, by="test")
    assert own_limit(tenant) == 2
    quotas.set_quotas(tenant, concurrent_steps=9, by="test")
    assert own_limit(tenant) == 9
    put(tenant, concurrency=3)
    quotas.set_quotas(tenant, concurrent_steps=NO_QUOTA, by="test")
    assert own_limit(tenant) == 3, "its own limit is its own"
    quotas.set_quotas(tenant, concurrent_steps=2, by="test")
    quotas.set_quotas(tenant, concurrent_steps=NO_QUOTA, by="test")
    assert own_limit(tenant) is None


def test_an_operator_sets_a_quota_however_many_changes_the_tenant_has_made(
    tenant: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CHANGES", 0)
    quotas.set_quotas(tenant, concurrent_steps=4, by="test")
    assert own_limit(tenant) == 4
    quotas.set_quotas(tenant, concurrent_steps=NO_QUOTA, by="test")
    assert own_limit(tenant) is None
    with pytest.raises(TooManyChanges):
        put(tenant, concurrency=2)


def test_a_quota_of_steps_is_stored_with_its_limit_or_not_at_all(tenant: Organization) -> None:
    put(tenant, concurrency=3, key="event.data.customer")  # such a limit can't be the quota
    for _ in range(2):
        with pytest.raises(InvalidInput, match="takes no key"):
            quotas.set_quotas(tenant, events_per_s=7, concurrent_steps=2, by="test")
        tenant.refresh_from_db()
        assert (tenant.events_per_s, tenant.concurrent_steps, own_limit(tenant)) == (None, None, 3)
    limits.delete_limit(limits.find_limit(tenant, "org"), by="tenant")
    Organization.objects.filter(id=tenant.id).update(concurrent_steps=2)  # what an earlier version left behind
    quotas.set_quotas(tenant, concurrent_steps=2, by="test")
    assert own_limit(tenant) == 2
    changes = ThrottleChange.objects.filter(org_id=tenant.id).count()
    quotas.set_quotas(tenant, concurrent_steps=2, by="test")
    assert ThrottleChange.objects.filter(org_id=tenant.id).count() == changes


def test_a_limit_of_a_rate_alone_stays_where_there_was_no_quota_to_take_away(tenant: Organization) -> None:
    put(tenant, rate_limit=100, rate_period_ms=1_000, weight=2.0)
    quotas.set_quotas(tenant, concurrent_steps=NO_QUOTA, by="test")
    assert limits.find_limit(tenant, "org").rate_limit == 100


def test_a_tenants_key_meets_the_quota(tenant: Organization) -> None:
    quotas.set_quotas(tenant, concurrent_steps=4, by="test")
    keyed = Doors(tenant).keyed
    answer = keyed.put("/api/limits", json.dumps({"scope": "org", "concurrency": 40}), content_type="application/json")
    assert (answer.status_code, "quota of 4" in answer.json()["detail"]) == (422, True)


# --- setting and showing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"events_per_s": 2_000_000}, {"events_per_s": -5}, {"concurrent_steps": 10**9}, {"stored_bytes": 10}]
)
def test_a_quota_out_of_range_is_refused(org: Organization, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="out of range"):
        quotas.set_quotas(org, **wrong, by="test")


def test_the_command_sets_and_shows_quotas(org: Organization) -> None:
    def run(*words: str) -> str:
        out = io.StringIO()
        call_command("organization", "quotas", "--org", org.slug, *words, stdout=out)
        return out.getvalue()

    shown = json.loads(run("--events-per-second", "50", "--stored-bytes", "5000000", "--json"))
    assert [each["most"] for each in shown] == [50, None, 5_000_000]
    assert "5,000,000" in run()
    assert [each["most"] for each in json.loads(run("--events-per-second", "0", "--json"))] == [None, None, 5_000_000]
    with pytest.raises(CommandError, match="takes it away"):
        run("--concurrent-steps", "-1")


def test_a_refusal_says_what_was_wanted(org: Organization) -> None:
    quotas.set_quotas(org, events_per_s=2, by="test")
    org.refresh_from_db()
    meter().take(org.id.hex, 2, 100)
    with pytest.raises(TooManyEvents, match="send these 7"):
        quotas.charge(org, 7)


def test_a_raised_quota_holds_at_once(live_db: None) -> None:
    name = uuid.uuid4().hex
    assert meter().take(name, 1, 500).wait_s == 0  # 500 seconds' worth
    assert meter().take(name, 1, 1).wait_s > 0
    assert meter().take(name, 1_000, 1).wait_s == 0


def test_what_is_no_event_uses_nothing_of_the_quota(tenant: Organization) -> None:
    quotas.set_quotas(tenant, events_per_s=5, by="test")
    doors = Doors(tenant)
    for body in (json.dumps([1] * 5_001), json.dumps([1] * 50), '[{"name": ""}]'):
        answer = Client().post(f"/e/{doors.event_key}", body, content_type="text/plain")
        assert answer.status_code == 400, answer.content
    assert doors.event(5).status_code == 200
