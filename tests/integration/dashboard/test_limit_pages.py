"""The pages of limits: who sees and changes what, what is refused, and what a change would have done to last week."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.integration.dashboard.people import member, operator_of_all
from tests.support.admin_site import successes
from tests.support.by_hand import start
from tests.support.workers import leave_nothing, publish
from throttling.gate import Gate, Request
from throttling.limits import ConcurrencyLimit, Limit, LimitSet
from throttling.models import ThrottleChange, ThrottleOverride
from throttling.names import Dimension, LimitName, Scope
from throttling.overrides import Snapshot
from throttling.policy import Policies
from workflows import this_process
from workflows.engine.pipeline import admit
from workflows.models import Organization, Run
from workflows.models.run import first_id
from workflows.selectors import limit_subjects
from workflows.simulation import what_if
from workflows.this_process.configuration import configuration

ONE_AT_ONCE = [{"id": "a", "type": "noop", "throttling": {"concurrency": 1}}, {"id": "b", "type": "noop"}]
VALUES = {"do": "save", "concurrency": "7", "rate_limit": "", "rate_period": "", "note": "a test", "seen": "none"}


@pytest.fixture
def operator(org: Organization) -> Client:
    return operator_of_all(org)


@pytest.fixture
def waiting(org: Organization, published: list[Any]) -> Iterator[None]:
    """Two of three steps wait for a limit of one."""
    for _ in range(3):
        start(org, ONE_AT_ONCE)
    yield
    leave_nothing(org)


# --- how they stand -------------------------------------------------------------------------------------------------


def test_the_list_says_how_limits_stand_and_one_says_who_waits(
    org: Organization, waiting: None, editor: Client, operator: Client
) -> None:
    answer = editor.get("/limits/")
    rows = [row for _, group, _ in answer.context["groups"] for row in group]
    (row,) = [row for row in rows if row["waiting"]]
    assert (row["what"], row["used"], row["percent"], row["waiting"]) == (
        "the concurrency limit of step a (flow)", 1, 100, 2,
    )  # fmt: skip
    part = editor.get("/limits/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert row["what"] in part
    for client in (editor, operator):
        one = client.get(f"/limits/one/{row['url']}")
        assert [(each.slug, each.number) for each in one.context["waiters"]] == [(org.slug, 2)]
        assert "publish a version that says another" in one.content.decode()


def test_others_that_wait_have_no_name_but_for_operators(org: Organization, other: Organization) -> None:
    name = LimitName(scope=Scope.GLOBAL, dimension=Dimension.CONCURRENCY)
    with a_gate_of_its_own() as gate:
        ask(gate, name, [org.id.hex] * 2 + [other.id.hex] * 5 + [uuid.uuid4().hex], bound=1)
        instance = f"c:{name}"
        assert {(each.slug, each.number) for each in limit_subjects.waiters(org, instance, everyone=False)} == {
            (org.slug, 1), ("other organizations", 6),
        }  # fmt: skip
        assert {(each.slug, each.number) for each in limit_subjects.waiters(org, instance, everyone=True)} == {
            (org.slug, 1), (other.slug, 5), ("", 1),
        }  # fmt: skip


@pytest.mark.parametrize("limit", ["", "x", "c:step:%00:x", "c:type:noop", "c:org:not-an-id:rate", "💩"])
def test_what_is_no_limit_is_not_found(editor: Client, limit: str) -> None:
    assert editor.get("/limits/one/", {"limit": limit}).status_code in {404, 422}


# --- the banner -----------------------------------------------------------------------------------------------------


class a_gate_of_its_own:  # noqa: N801  (used as a function)
    """A store without limits of tests, with nobody in it; this process asks it for a while."""

    def __enter__(self) -> Gate:
        self.gate = Gate(configuration().redis_url, prefix=f"pages-{uuid.uuid4().hex[:8]}")
        self.gate.open_epoch(self.gate.begin_epoch()[0], 1)
        self.replaced = this_process.replaced(admit._new_gate, self.gate)
        self.replaced.__enter__()
        return self.gate

    def __exit__(self, *error: Any) -> None:
        self.replaced.__exit__(*error)
        self.gate.begin_epoch(anew=True)
        self.gate.close()


def ask(gate: Gate, name: LimitName, tenants: list[str], *, bound: int) -> None:
    limit = Limit(name=name, bound=ConcurrencyLimit(max_running=bound), base=str(bound), base_stamp=1)
    limits = LimitSet.of([(limit, None)])
    gate.admit([
        Request(id=uuid.uuid4().hex, limits=limits, tenant=tenant, lane="headrace.io") for tenant in tenants
    ])  # fmt: skip


def test_a_shipped_limit_that_holds_back_is_said_on_every_page(
    org: Organization, editor: Client, operator: Client
) -> None:
    from workflows.templatetags.headrace_limits import Known

    name = LimitName(scope=Scope.GLOBAL, dimension=Dimension.CONCURRENCY)
    with a_gate_of_its_own() as gate, this_process.replaced(Snapshot, Snapshot(Policies())):
        ask(gate, name, [org.id.hex] * 20, bound=10)
        assert limit_subjects.held_back() is None  # ten wait for ten: their turn comes
        ask(gate, name, [org.id.hex] * 20, bound=10)
        held = limit_subjects.held_back()
        assert held is not None
        assert (held.scope, held.bound, held.waiting) == ("global", "10 at once", 30)
        with this_process.replaced(Known, Known()):
            assert 'href="/limits/change/?scope=global"' in operator.get("/flows/").content.decode()
            assert "manage.py limits set --global --concurrency 100" in editor.get("/flows/").content.decode()
            assert "held-back" not in Client().get("/login/").content.decode()
    raised = Policies(overrides={("global", "", None, None, ""): overridden(org)})
    with a_gate_of_its_own() as gate, this_process.replaced(Snapshot, Snapshot(raised)):
        ask(gate, name, [org.id.hex] * 40, bound=10)
        assert limit_subjects.held_back() is None  # somebody has chosen it


def overridden(org: Organization) -> Any:
    from throttling.overrides import as_override

    return as_override(ThrottleOverride(scope="global", concurrency=10))


# --- changes --------------------------------------------------------------------------------------------------------


def test_an_editor_changes_a_limit_of_the_organization(org: Organization, editor: Client) -> None:
    publish(org, ONE_AT_ONCE)
    answer = editor.post("/limits/change/", {**VALUES, "scope": "flow", "flow": "flow"}, follow=True)
    assert "7 at once for the flow flow" in successes(answer)[0]
    row = ThrottleOverride.objects.get(org_id=org.id)
    assert (row.concurrency, row.note, row.changed_by[:5]) == (7, "a test", "user ")
    page = editor.get("/limits/change/?scope=flow&flow=flow").content.decode()
    assert 'value="7"' in page
    assert "Remove this value" in page
    answer = editor.post("/limits/change/", {**VALUES, "scope": "flow", "flow": "flow"})
    assert answer.status_code == 422
    assert "was changed by user" in answer.content.decode()
    seen = answer.context["seen"]
    editor.post("/limits/change/remove/", {"scope": "flow", "flow": "flow", "seen": seen})
    assert not ThrottleOverride.objects.filter(org_id=org.id).exists()
    assert "7 at once" in editor.get("/limits/history/").content.decode()


def test_the_period_that_the_form_shows_is_the_period_of_more_starts(operator: Client) -> None:
    page = operator.get("/limits/change/?scope=global").context
    shown, form = page["now_period"], {"scope": "global", "rate_limit": "900000", "seen": page["seen"], "do": "preview"}
    answer = operator.post("/limits/change/", form)
    assert (answer.status_code, answer.context["form"]["rate_period"]) == (200, shown)


def test_what_the_form_does_not_show_stays(org: Organization, editor: Client, operator: Client) -> None:
    row = ThrottleOverride(scope="type", type="noop", org_id=org.id, concurrency=3, max_attempts=5, key="input.a")
    row.save()
    seen = editor.get("/limits/change/?scope=type&type=noop").context["seen"]
    assert successes(
        editor.post("/limits/change/", {**VALUES, "scope": "type", "type": "noop", "seen": seen}, follow=True)
    )
    row.refresh_from_db()
    assert (row.concurrency, row.max_attempts, row.key) == (7, 5, "input.a")
    row.delete()


def test_what_holds_for_all_takes_an_operator(org: Organization, editor: Client, operator: Client) -> None:
    before = ThrottleOverride.objects.filter(org_id=None).count()
    for subject in ({"scope": "global"}, {"scope": "runs"}, {"scope": "type", "type": "noop", "all": "yes"}):
        assert editor.get("/limits/change/", subject).status_code == 403
        for path in ("/limits/change/", "/limits/change/remove/"):
            assert editor.post(path, {**VALUES, **subject}).status_code == 403
        assert operator.get("/limits/change/", subject).status_code == 200
    assert ThrottleOverride.objects.filter(org_id=None).count() == before


def test_a_viewer_and_strangers_change_nothing(org: Organization, other: Organization) -> None:
    publish(org, ONE_AT_ONCE)
    for client, status in ((member(org, "viewer"), 403), (member(org, "operator"), 403), (member(other, "admin"), 404)):
        assert client.get("/limits/").status_code == 200
        assert client.get("/limits/change/?scope=flow&flow=flow").status_code == status
        assert client.post("/limits/change/", {**VALUES, "scope": "flow", "flow": "flow"}).status_code == status
        assert client.post("/limits/change/remove/", {"scope": "flow", "flow": "flow"}).status_code == status
    assert not ThrottleChange.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize(
    "fields",
    [{"concurrency": "0"}, {"concurrency": "-1"}, {"concurrency": "x"}, {"concurrency": "9" * 30},
     {"concurrency": "1.5"}, {"concurrency": ""}, {"rate_limit": "5"}, {"rate_period": "60s", "concurrency": ""},
     {"rate_limit": "5", "rate_period": "x"}, {"rate_limit": "5", "rate_period": "0"},
     {"rate_limit": "5", "rate_period": "400d"}, {"rate_limit": "5", "rate_period": "60s", "rate_algorithm": "x"},
     {"rate_limit": "5", "rate_period": "60s", "rate_burst": "-3"}, {"note": "x" * 501}, {"seen": ""}],
)  # fmt: skip
@pytest.mark.parametrize("do", ["save", "preview"])
def test_a_value_that_can_not_be_is_refused_and_stays_in_the_form(
    org: Organization, editor: Client, fields: dict[str, str], do: str
) -> None:
    answer = editor.post("/limits/change/", {**VALUES, "scope": "org", **fields, "do": do})
    assert answer.status_code == 422
    assert answer.context["error"]
    assert answer.context["form"]["concurrency"] == fields.get("concurrency", "7")
    assert not ThrottleOverride.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize(
    "query", ["", "scope=none", "scope=flow", "scope=flow&flow=none", "scope=limit", "scope=limit&name=" + "x" * 101,
              "scope=pause", "scope=limit&name=%00"],
)  # fmt: skip
def test_a_subject_that_is_none_is_refused(editor: Client, query: str) -> None:
    assert editor.get(f"/limits/change/?{query}").status_code in {404, 422}


def test_an_unknown_step_type_is_refused_with_those_that_there_are(editor: Client, org: Organization) -> None:
    answer = editor.post("/limits/change/", {**VALUES, "scope": "type", "type": "none"})
    assert answer.status_code == 422
    assert "http_request" in answer.context["error"]


# --- last week ------------------------------------------------------------------------------------------------------


def arrived(org: Organization, slug: str, seconds_ago: list[float]) -> None:
    """Make runs look as if they had come then: by their ids, which begin with the time."""
    import time

    run_ids = [start(org, ONE_AT_ONCE, slug=slug) for _ in seconds_ago]
    for run_id, ago in zip(run_ids, seconds_ago, strict=True):
        moved = uuid.UUID(int=first_id(time.time() - ago).int | (run_id.int & ((1 << 80) - 1)))
        Run.objects.filter(id=run_id).update(id=moved)


def test_last_weeks_busiest_hour_is_tried_under_the_changed_limit(org: Organization, published: list[Any]) -> None:
    arrived(org, "flow", [90_000.0, 7_000.0, *[90_000.0 - 200] * 6])
    found = what_if.compare(org, ("org", "", None, org.id, ""), None)
    assert found is not None
    assert (found.stretch.runs, found.stretch.flows, found.stretch.left_out) == (7, 1, 0)
    assert found.now == found.changed
    assert found.now.longest_wait_ms > 0  # six at once, one after the other
    assert found.now.binding[0][0].startswith("c:step:")
    none = what_if.compare(org, ("org", "", None, org.id, ""), overridden_org(org, rate=(1, 3_600_000)))
    assert none is not None
    assert none.changed.last_start_ms > 10 * 3_600_000
    assert none.changed.most_a_minute == 1
    leave_nothing(org)


def overridden_org(org: Organization, *, rate: tuple[int, int]) -> Any:
    from throttling.overrides import as_override

    limit, period = rate
    return as_override(ThrottleOverride(scope="org", org_id=org.id, rate_limit=limit, rate_period_ms=period))


def test_a_change_is_tried_on_its_page_before_it_is_saved(
    org: Organization, published: list[Any], editor: Client
) -> None:
    empty = editor.post("/limits/change/", {**VALUES, "scope": "org", "do": "preview"})
    assert "No run came within the last week" in empty.content.decode()
    arrived(org, "flow", [5_000.0] * 3)
    fields = {**VALUES, "scope": "org", "do": "preview", "rate_limit": "1", "rate_period": "60s"}
    page = editor.post("/limits/change/", fields).content.decode()
    assert "3 runs of 1 flow, as they came" in page
    assert "Save: 7 at once and 1 starts in 1m" in page
    assert "the rate limit of the organization" in page
    assert not ThrottleOverride.objects.filter(org_id=org.id).exists()
    leave_nothing(org)


def test_a_try_that_takes_too_long_says_so_and_changes_nothing(
    org: Organization, published: list[Any], editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived(org, "flow", [5_000.0] * 3)
    monkeypatch.setattr(what_if, "MAX_S", 0.0)
    answer = editor.post("/limits/change/", {**VALUES, "scope": "org", "do": "preview"})
    assert answer.status_code == 422
    assert "took too long" in answer.context["error"]
    assert not ThrottleOverride.objects.filter(org_id=org.id).exists()
    leave_nothing(org)


def test_the_busiest_hour_is_bounded(org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arrived(org, "flow", [50_000.0, 49_000.0, 48_900.0, 20_000.0])
    monkeypatch.setattr(what_if, "MAX_RUNS", 2)
    stretch = what_if.busiest(org)
    assert stretch is not None
    assert (stretch.runs, stretch.is_cut) == (2, True)
    monkeypatch.setattr(what_if, "MAX_STEPS_REPLAYED", 2)
    assert what_if.busiest(org).runs == 1
    leave_nothing(org)
