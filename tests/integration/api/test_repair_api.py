"""Dead letters, repeats, bulk operations, idempotency and alerts over REST, in the admin and on the command line."""

from __future__ import annotations

import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from dlq.models import Alert, AlertChannel, AlertRule, DeadLetter, DeadLetterGroup
from tests.integration.api.test_api import Api, assert_problem
from tests.support.workers import await_end, await_that, by_key, publish, run_to_end, statuses
from workflows import services
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.models import AccessKey, BulkOperation, Membership, Organization, Run

pytestmark = pytest.mark.usefixtures("workers")
RAISES = {"id": "b", "type": "raises", "config": {"how": "final"}}


@pytest.fixture
def api(api_key: str) -> Api:
    return Api(api_key)


def failed(org: Organization, data: Any = None, slug: str = "flow") -> DeadLetter:
    detail = run_to_end(org, [{"id": "a", "type": "noop"}, RAISES], data or {"n": 1}, slug=slug)
    return DeadLetter.objects.get(run_id=detail.run.id)


def json_of(*arguments: str) -> Any:
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


# --- REST ----------------------------------------------------------------------------------------------------------


def test_letters_are_listed_filtered_and_shown(api: Api, org: Organization) -> None:
    letter, other = failed(org), failed(org, slug="other")
    listed = api.get("/dlq").json()
    assert [each["id"] for each in listed["deadLetters"]] == [str(other.id), str(letter.id)]
    first = listed["deadLetters"][1]
    assert first | {"id": 0} == first | {
        "id": 0, "status": "failed", "eventName": "headrace/manual", "eventData": {"n": 1}, "errorName": "NonRetriable",
        "errorMessage": "no use", "attempts": 1, "category": "business", "workflow": "flow", "step": "b",
        "stepType": "raises", "runId": str(letter.run_id), "replayRunId": None, "reason": None,
    }  # fmt: skip
    for query, count in (
        ({"workflow": "other"}, 1), ({"category": "auth"}, 0), ({"step": "b"}, 2), ({"search": "NO USE"}, 2),
        ({"run": str(letter.run_id)}, 1), ({"status": "ignored"}, 0), ({"group": first["fingerprint"]}, 2),
        ({"since": "2000-01-01T00:00:00Z"}, 2), ({"until": "2000-01-01T00:00:00Z"}, 0),
        ({"event": "headrace/manual"}, 2), ({"type": "noop"}, 0),
    ):  # fmt: skip
        assert len(api.get("/dlq", **query).json()["deadLetters"]) == count, query
    page = api.get("/dlq", limit=1).json()
    rest = api.get("/dlq", limit=1, cursor=page["nextCursor"]).json()
    assert (rest["deadLetters"][0]["id"], rest["nextCursor"]) == (str(letter.id), None)
    shown = api.get(f"/dlq/{letter.id}").json()
    assert "NonRetriable" in shown["errorStack"]
    assert shown["changes"] == []
    assert api.get("/dlq/stats").json()["failed"] == 2


@pytest.mark.parametrize(
    ("query", "says"),
    [({"limit": 0}, "limit"), ({"cursor": "x"}, "cursor"), ({"since": "soon"}, "since"), ({"run": "x"}, "run")],
)
def test_a_bad_query_is_refused(api: Api, org: Organization, query: dict[str, Any], says: str) -> None:
    assert_problem(api.get("/dlq", **query), 422, "invalid_input", says)


def test_a_letter_is_replayed_resumed_ignored_and_reopened(api: Api, org: Organization) -> None:
    letter = failed(org)
    dry = api.post(f"/dlq/{letter.id}/replay", {"mode": "resume", "dryRun": True, "input": {"n": 2}})
    assert dry.status_code == 202
    assert dry.json() == {"runId": None, "originId": str(letter.run_id), "version": 1, "dryRun": True, "kept": ["a"],
                          "runs": ["b"], "changes": [{"op": "replace", "path": "/n", "value": 2}]}  # fmt: skip
    ignored = api.post(f"/dlq/{letter.id}/ignore", {"reason": "a test"}).json()
    assert (ignored["status"], ignored["reason"]) == ("ignored", "a test")
    assert_problem(api.post(f"/dlq/{letter.id}/replay"), 409, "dead_letter_handled", "reopen")
    assert api.post(f"/dlq/{letter.id}/reopen").json()["status"] == "failed"
    publish(org, [{"id": "b", "type": "delay", "config": {"for": "1h"}}])
    replayed = api.post(f"/dlq/{letter.id}/replay").json()
    run = api.get(f"/runs/{replayed['runId']}").json()
    assert (run["originId"], run["originKind"]) == (str(letter.run_id), "replay")
    assert run["input"] == {"n": 1, "_dlqReprocessed": True, "_dlqItemId": str(letter.id)}
    assert api.get(f"/runs/{letter.run_id}").json()["repeats"] == [{"id": replayed["runId"], "kind": "replay"}]
    shown = api.get(f"/dlq/{letter.id}").json()
    assert (shown["status"], shown["replayRunId"]) == ("reprocessed", replayed["runId"])
    assert [change["what"] for change in shown["changes"]] == ["ignored", "reopened", "replayed"]
    assert shown["changes"][0]["by"].startswith("API key hr_api_")
    assert_problem(api.post(f"/dlq/{letter.id}/replay"), 409, "already_repaired", replayed["runId"])
    assert_problem(api.post(f"/dlq/{uuid.uuid4()}/replay"), 404, "dead_letter_not_found", "GET /api/dlq")
    assert_problem(api.post(f"/dlq/{letter.id}/ignore", {}), 422, "invalid_request", "reason")
    assert_problem(api.post(f"/dlq/{letter.id}/replay", {"mode": "back"}), 422, "invalid_request", "mode")


def test_groups_over_rest(api: Api, org: Organization) -> None:
    letter = failed(org)
    (group,) = api.get("/dlq/groups").json()
    assert (group["id"], group["failed"], sum(group["history"]), len(group["history"])) == (
        str(letter.group_id),
        1,
        1,
        24,
    )
    path = f"/dlq/groups/{group['fingerprint']}"
    assert api.post(f"{path}/assign", {"assignee": "ada"}).json()["assignedTo"] == "ada"
    assert api.post(f"{path}/comments", {"text": "look"}).json()["comments"][-1]["text"] == "look"
    assert api.post(f"{path}/auto-replay", {"after": "2m"}).json()["autoReplayS"] == 120
    assert api.post(f"{path}/snooze", {"for": "8h"}).json()["snoozedUntil"] is not None
    assert api.get("/dlq/groups").json() == []
    assert len(api.get("/dlq/groups", snoozed=True).json()) == 1
    assert api.post(f"{path}/snooze", {}).json()["snoozedUntil"] is None
    assert_problem(api.get("/dlq/groups/nothing"), 404, "dead_letter_group_not_found", "groups")
    assert_problem(api.post(f"{path}/snooze", {"for": "soon"}), 422, "invalid_input", "for")
    assert_problem(api.get("/dlq/groups", status="x"), 422, "invalid_input", "status")


def test_bulk_operations_over_rest(api: Api, org: Organization) -> None:
    for _ in range(3):
        failed(org)
    dry = api.post("/dlq/replay", {"filter": {"workflow": "flow"}, "dryRun": True}).json()
    assert (dry["matched"], dry["id"], dry["status"]) == (3, None, "dry run")
    assert not BulkOperation.objects.filter(org_id=org.id).exists()
    started = api.post("/dlq/replay", {"filter": {"workflow": "flow"}, "mode": "resume", "perSecond": 50})
    assert started.status_code == 202
    path = f"/operations/{started.json()['id']}"
    ended = await_that(lambda: (found := api.get(path).json())["status"] == "completed" and found)
    assert (ended["done"], ended["passedOver"], ended["matched"]) == (3, 0, 3)
    assert api.get("/operations").json()[0]["id"] == started.json()["id"]
    assert api.post(f"{path}/stop").json()["status"] == "completed"  # it had ended: nothing changes
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id, status="failed").count() == 3)  # they failed again
    ignored = api.post("/dlq/ignore", {"filter": {"category": "business"}, "reason": "known"}).json()
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id, status="ignored").count() == 3)
    assert api.get(f"/operations/{ignored['id']}").json()["options"] == {"reason": "known"}
    assert_problem(api.post("/dlq/replay", {"filter": {"colour": "red"}}), 422, "invalid_input", "'colour' is unknown")
    assert_problem(api.post("/dlq/replay", {"perSecond": 0, "all": True}), 422, "invalid_input", "out of range")
    assert_problem(api.get(f"/operations/{uuid.uuid4()}"), 404, "operation_not_found", "no such bulk operation")


def test_runs_are_repeated_and_cancelled_over_rest(api: Api, org: Organization) -> None:
    letter = failed(org)
    replayed = api.post(f"/runs/{letter.run_id}/replay", {"mode": "resume"}).json()
    assert (replayed["kept"], replayed["runs"]) == (["a"], ["b"])
    forked = api.post(f"/runs/{letter.run_id}/fork", {"fromSteps": ["a"], "input": {"n": 5}}).json()
    detail = await_end(org, uuid.UUID(forked["runId"]))
    assert detail.run.input == {"n": 5}
    assert_problem(
        api.post(f"/runs/{letter.run_id}/fork", {"fromSteps": ["x"]}), 422, "invalid_input", "'x' is no step"
    )
    assert_problem(api.post(f"/runs/{uuid.uuid4()}/replay"), 404, "run_not_found", "no such run")
    (sleeping,) = services.trigger(org, publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}])).run_ids
    assert_problem(api.post(f"/runs/{sleeping}/replay"), 409, "run_not_ended", "cancel it")
    await_that(lambda: api.get("/runs", status="waiting").json()["runs"])
    operation = api.post("/runs/bulk/cancel", {"filter": {"status": "waiting"}, "reason": "tidy"}).json()
    assert operation["matched"] == 1
    assert await_end(org, sleeping).run.cancel_reason == "tidy"
    bulk_replay = api.post("/runs/bulk/replay", {"filter": {"status": "cancelled"}, "dryRun": True}).json()
    assert bulk_replay["matched"] == 1


def test_alerts_over_rest(api: Api, org: Organization) -> None:
    now = timezone.now()
    rule = AlertRule.objects.get(name="zombies")
    Alert.objects.create(
        org_id=org.id, rule=rule, severity="critical", title="t", message="m", fired_at=now, seen_at=now
    )
    Alert.objects.create(org_id=org.id, severity="info", title="over", message="m", fired_at=now, seen_at=now,
                         recovered_at=now)  # fmt: skip
    assert [alert["title"] for alert in api.get("/alerts").json()] == ["over", "t"]
    assert [alert["rule"] for alert in api.get("/alerts", open=True).json()] == ["zombies"]


# --- idempotency ---------------------------------------------------------------------------------------------------


def test_a_flow_s_key_gives_the_first_run_unless_it_is_forced(api: Api, org: Organization) -> None:
    own = {"key": "input.taskId", "force": "has(input.force) && input.force"}
    slug = publish(org, [{"id": "a", "type": "noop"}], idempotency=own)
    first = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t1"}}).json()
    again = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t1", "other": 1}}).json()
    assert (again["runId"], again["existing"], again["message"]) == (
        first["runId"], True, "An earlier run has this idempotency key",
    )  # fmt: skip
    other = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t2"}}).json()
    forced = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t1", "force": True}}).json()
    by_switch = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t1"}, "force": True}).json()
    assert len({first["runId"], other["runId"], forced["runId"], by_switch["runId"]}) == 4
    last = api.post(f"/workflows/{slug}/run", {"triggerData": {"taskId": "t1"}}).json()
    assert last["runId"] == by_switch["runId"]  # the latest stands for the key
    refused = api.post(f"/workflows/{slug}/run", {"triggerData": {}})
    assert_problem(refused, 422, "invalid_input", "idempotency key `input.taskId`")


def test_many_runs_at_once_share_their_keys(org: Organization) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}], idempotency="input.id")
    first = services.trigger(org, slug, {"id": 1}).run_ids[0]
    triggered = services.trigger_many(org, slug, [{"id": n} for n in (1, 2, 2, 3)])
    one, two, two_again, three = triggered.run_ids
    assert (one, two_again) == (first, two)
    assert len({one, two, three}) == 3
    assert triggered.existing_ids == {first}
    assert Run.objects.filter(org_id=org.id).count() == 3


def test_both_keys_count_and_point_to_one_run(org: Organization) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}], idempotency="input.id")
    first = services.trigger(org, slug, {"id": 1}, idempotency_key="k1").run_ids[0]
    assert services.trigger(org, slug, {"id": 1}, idempotency_key="k2").run_ids == [first]  # by the flow's
    assert services.trigger(org, slug, {"id": 9}, idempotency_key="k2").run_ids == [first]  # so k2 stands for it too
    assert services.trigger(org, slug, {"id": 9}, idempotency_key="k3").run_ids != [first]


def test_the_window_of_a_key_ends(org: Organization) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}], idempotency={"key": "input.id", "window": "1s"})
    first = services.trigger(org, slug, {"id": 1}).run_ids[0]
    assert services.trigger(org, slug, {"id": 1}).run_ids == [first]
    await_that(lambda: services.trigger(org, slug, {"id": 1}).run_ids != [first], 5)


def test_an_event_sent_twice_under_its_id_starts_one_run_of_each_flow(org: Organization) -> None:
    for slug in ("one", "two"):
        publish(org, [{"id": "a", "type": "noop"}], slug=slug, on={"event": "order/created"})
    for _ in range(2):
        receive.receive(org.id, [NewEvent(name="order/created", external_id="evt_1", data={"n": 1})])
    receive.receive(org.id, [NewEvent(name="order/created", external_id="evt_2", data={"n": 1})])
    await_that(lambda: Run.objects.filter(org_id=org.id).count() >= 4)
    assert Run.objects.filter(org_id=org.id).count() == 4


def test_repeats_pass_the_keys_by(org: Organization) -> None:
    slug = publish(org, [RAISES], idempotency="input.n")
    (run_id,) = services.trigger(org, slug, {"n": 1}).run_ids
    await_end(org, run_id)
    letter = DeadLetter.objects.get(run_id=run_id)
    replayed = json_of("dlq", "replay", str(letter.id), "--org", org.slug)
    assert replayed["runId"] != str(run_id)
    assert services.trigger(org, slug, {"n": 1}).run_ids == [run_id]


# --- commands ------------------------------------------------------------------------------------------------------


def test_dead_letters_on_the_command_line(org: Organization) -> None:
    letter = failed(org)
    failed(org, {"n": 2})
    listed = json_of("dlq", "list", "--org", org.slug, "--flow", "flow")["deadLetters"]
    assert len(listed) == 2
    assert json_of("dlq", "show", str(letter.id), "--org", org.slug)["errorMessage"] == "no use"
    assert json_of("dlq", "stats", "--org", org.slug)["failed"] == 2
    (group,) = json_of("dlq", "groups", "--org", org.slug)
    assert json_of("dlq", "replay", "--group", group["fingerprint"], "--dry-run", "--org", org.slug)["matched"] == 2
    dry = json_of("dlq", "replay", str(letter.id), "--dry-run", "--mode", "resume", "--org", org.slug)
    assert (dry["runId"], dry["kept"]) == (None, ["a"])
    ended = json_of("dlq", "replay", "--group", group["fingerprint"][:12], "--rate", "50", "--org", org.slug)
    assert (ended["status"], ended["done"], ended["createdBy"]) == ("completed", 2, "the command line")
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id, status="failed").count() == 2)
    ended = json_of("dlq", "ignore", "--all", "--reason", "seen", "--org", org.slug)
    assert ended["done"] == 2
    assert json_of("bulk", "list", "--org", org.slug)[0]["id"] == ended["id"]
    assert json_of("bulk", "show", ended["id"], "--org", org.slug)["done"] == 2


def test_the_tables_of_the_commands(org: Organization) -> None:
    letter = failed(org)
    for arguments, says in (
        (("dlq", "list"), "no use"), (("dlq", "groups"), "raises"), (("dlq", "stats"), "lastHour"),
        (("dlq", "show", str(letter.id)), "NonRetriable"), (("dlq", "replay", "--all"), "1 done"),
        (("bulk", "list"), "replay_dead_letters"), (("alerts", "rules"), "failure-rate"), (("alerts", "list"), "severity"),
    ):  # fmt: skip
        out = StringIO()
        call_command(*arguments, "--org", org.slug, stdout=out)
        assert says in out.getvalue(), arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("dlq", "replay"), "Name a dead letter"),
        (("dlq", "show", str(uuid.uuid4())), "no such dead letter"),
        (("dlq", "replay", str(uuid.uuid4()), "--data", "{"), "no JSON"),
        (("dlq", "list", "--since", "soon"), "no time"),
        (("runs", "cancel"), "Name a run"),
        (("runs", "fork", str(uuid.uuid4()), "--from", "a"), "no such run"),
        (("bulk", "stop", str(uuid.uuid4())), "no such bulk operation"),
        (("alerts", "test", "nonsense://x"), "does not know"),
    ],
)
def test_commands_refuse_with_one_clear_line(org: Organization, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        call_command(*arguments, "--org", org.slug)


def test_runs_on_the_command_line(org: Organization) -> None:
    letter = failed(org)
    run_id = str(letter.run_id)
    assert json_of("runs", "replay", run_id, "--mode", "resume", "--dry-run", "--org", org.slug)["runs"] == ["b"]
    forked = json_of("runs", "fork", run_id, "--from", "b", "--data", '{"n": 9}', "--org", org.slug)
    assert await_end(org, uuid.UUID(forked["runId"])).run.input == {"n": 9}
    slug = publish(org, [{"id": "a", "type": "delay", "config": {"for": "1h"}}], slug="sleepy")
    services.trigger_many(org, slug, [{}] * 3)
    ended = json_of("runs", "cancel", "--workflow", "sleepy", "--reason", "tidy", "--org", org.slug)
    assert (ended["done"], ended["options"]) == (3, {"reason": "tidy"})
    out = StringIO()
    call_command("trigger", "sleepy", "--key", "k", "--org", org.slug, stdout=StringIO())
    call_command("trigger", "sleepy", "--key", "k", "--org", org.slug, stdout=out)
    assert "an earlier one" in out.getvalue()
    call_command("trigger", "sleepy", "--key", "k", "--force", "--org", org.slug, stdout=out)
    assert Run.objects.filter(org_id=org.id, flow__slug="sleepy", ended_at=None).count() == 2
    json_of("runs", "cancel", "--workflow", "sleepy", "--org", org.slug)


# --- admin ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(live_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}"))
    return client


def act(admin: Client, action: str, letter: DeadLetter) -> str:
    answer = admin.post(
        "/admin/headrace_dlq/deadletter/", {"action": action, "_selected_action": [str(letter.id)]}, follow=True
    )
    assert answer.status_code == 200
    return answer.content.decode()


def test_dead_letters_in_the_admin(admin: Client, org: Organization) -> None:
    letter = failed(org)
    assert "no use" in admin.get("/admin/headrace_dlq/deadletter/").content.decode()
    assert "NonRetriable" in admin.get(f"/admin/headrace_dlq/deadletter/{letter.id}/change/").content.decode()
    assert "1 ignored" in act(admin, "ignore", letter)
    assert "already" in act(admin, "replay", letter)
    assert "1 reopened" in act(admin, "reopen", letter)
    assert "1 resumed" in act(admin, "resume", letter)
    repair = Run.objects.get(origin_id=letter.run_id)
    assert statuses(await_end(org, repair.id)) == {"a": "completed", "b": "failed"}
    assert by_key(await_end(org, repair.id))["a"].attempts == []


def test_groups_rules_and_channels_in_the_admin(admin: Client, org: Organization) -> None:
    group = DeadLetterGroup.objects.get(id=failed(org).group_id)
    page = f"/admin/headrace_dlq/deadlettergroup/{group.id}/change/"
    assert admin.get("/admin/headrace_dlq/deadlettergroup/").status_code == 200
    form = {"assigned_to": "ada", "snoozed_until_0": "", "snoozed_until_1": "", "auto_replay_s": "60",
            "comments-TOTAL_FORMS": "1", "comments-INITIAL_FORMS": "0", "comments-0-text": "look",
            "comments-0-group": str(group.id)}  # fmt: skip
    assert admin.post(page, form).status_code == 302
    group.refresh_from_db()
    assert (group.assigned_to, group.auto_replay_s) == ("ada", 60)
    texts = [comment.text for comment in group.comments.all()]
    assert texts == ["assigned to ada", "automatic replay after 60 s", "look"]

    name = f"chan-{org.slug}"
    new = {"name": name, "url": "nonsense://x", "min_severity": "info", "org_id": str(org.id), "enabled": "on"}
    assert "does not know" in admin.post("/admin/headrace_dlq/alertchannel/add/", new).content.decode()
    new["url"] = "json://127.0.0.1:1/secret-token"
    assert admin.post("/admin/headrace_dlq/alertchannel/add/", new).status_code == 302
    channel = AlertChannel.objects.get(name=name)
    assert channel.url == new["url"]
    shown = admin.get(f"/admin/headrace_dlq/alertchannel/{channel.id}/change/").content.decode()
    assert "secret-token" not in shown
    assert admin.post(f"/admin/headrace_dlq/alertchannel/{channel.id}/change/", {**new, "url": ""}).status_code == 302
    channel.refresh_from_db()
    assert channel.url == new["url"]
    channel.delete()
    for path in ("alertrule", "alert"):
        assert admin.get(f"/admin/headrace_dlq/{path}/").status_code == 200
    assert admin.get("/admin/headrace_workflows/bulkoperation/").status_code == 200


def test_a_viewer_may_not_act_in_the_admin(org: Organization) -> None:
    from django.contrib.auth.models import Permission

    letter = failed(org)
    user = User.objects.create_user(f"viewer-{uuid.uuid4().hex[:8]}", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    Membership.objects.create(organization=org, user=user, role="viewer")
    client = Client()
    client.force_login(user)
    assert client.get("/admin/headrace_dlq/deadletter/").status_code == 200
    client.post("/admin/headrace_dlq/deadletter/", {"action": "ignore", "_selected_action": [str(letter.id)]})
    letter.refresh_from_db()
    assert letter.status == "failed"
    assert AccessKey.objects.filter(organization=org).count() == 0
