"""What an installation of version 0.1.0 was in the middle of is brought to its end by the current code, and nothing stored
is lost. `tests/fixtures/README.md` says what is in it.

Versions that later rules refuse (organization `globex`) go on by the rules they were published under, or their runs fail
once, with a dead letter that names the path; they keep nobody else from going on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from pytest_httpserver import HTTPServer

from tests.support.restored import Restored, Row, differences
from tests.support.workers import await_that
from workflows.selectors.runs import FAULTS

WITHIN_S = 60
MIGRATED = frozenset({"django_migrations", "django_content_type", "auth_permission", "headrace_dlq_alertrule"})
"""Tables whose rows a migration may change: the bookkeeping of Django, and the severity of shipped alert rules that nobody
has edited. Name others here, and why, when one does."""
MAY_BE_REFUSED = {
    "schema-typo": "input_schema.properties.item",
    "schema-remote": "input_schema.properties.item",
    "schema-loop": "input_schema",
    "schema-look-ahead": "input_schema.properties.name",
    "schema-old-items": "input_schema",
    "cel-chain": "steps[1].if",
    "cel-nested": "steps[1].if",
}
"""Runs whose versions new rules may refuse, and the path that a dead letter has to name then."""
REFUSED_FAULTS = frozenset({"refusedFlows"})
"""What `doctor` may report beside faults: current flows that new rules refuse."""
ANSWERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("acme", "everything/go", {"id": "v1"}), ("acme", "everything/go", {"id": "v2"}),
    ("acme", "order/paid", {"orderId": "o-1", "total": 150}), ("acme", "order/paid", {"orderId": "o-2", "total": 150}),
    ("acme", "order/priced", {"total": 20}), ("acme", "parcel/sent", {}), ("acme", "child/go", {"id": "c-1"}),
    ("acme", "cancellable/cancelled", {"id": "x-1"}), ("acme", "single/go", {}), ("acme", "narrow/go", {}),
    ("acme", "keyed/go", {}), ("acme", "drained/go", {}), ("globex", "globex/go", {}),
)  # fmt: skip
"""What open runs wait for. Each is sent once."""


class Upgraded:
    """The restored installation, its rows before and after the migration, and the server behind its secret TARGET."""

    def __init__(self, installed: Restored, target: HTTPServer) -> None:
        self.installed, self.target = installed, target
        self.open = set(installed.sql("SELECT id::text FROM workflows_run WHERE ended_at IS NULL"))
        self._keep_waits_open()
        self.before = installed.tables()
        self.migration = installed.command("migrate", "--no-input")
        self.after = installed.tables()

    def _keep_waits_open(self) -> None:
        """The only change of the dump: its long waits and one sleep are not over yet, however old it is."""
        long = "SELECT step_run_id FROM workflows_wait WHERE expires_at > created_at + interval '10 days'"
        soon = (
            f"SELECT id FROM workflows_steprun WHERE run_id = '{self.installed.run_id('sleeper-soon')}' AND key = 'nap'"
        )
        assert (
            self.installed.change(f"UPDATE workflows_steprun SET wake_at = now() + '1 day' WHERE id IN ({long})") > 20
        )
        self.installed.change(f"UPDATE workflows_wait SET expires_at = now() + '1 day' WHERE step_run_id IN ({long})")
        slept = self.installed.change(f"UPDATE workflows_steprun SET wake_at = now() + '20 s' WHERE id IN ({soon})")
        assert slept == 1

    def go_on(self) -> None:
        """Start the processes, let the paused flows go on, and send what the open runs wait for."""
        stored = self.installed.command("secret", "--org", "acme", "set", "TARGET", given=self.target.url_for(""))
        assert stored.returncode == 0, stored.stderr
        self.installed.start()
        for slug in ("paused-flow", "drained-flow", "skipping-flow"):
            self.installed.ask("POST", f"/api/workflows/{slug}/resume", "acme")
        for token in self.installed.manifest["callbacks"].values():
            self.installed.ask("POST", f"/callbacks/{token}", json={"called": True})
        self.decide("await-approval", "approve")
        self.decide("await-rejection", "reject")
        for org, name, data in ANSWERS:
            self.installed.send(name, data, org)
        for label in ("everything-v1", "everything-v2"):
            self.decide(label, "approve")

    def decide(self, label: str, decision: str) -> None:
        """Makes the decision that a run waits for, as soon as it does."""
        run_id = self.installed.run_id(label)
        found = await_that(lambda: self._approval(run_id), WITHIN_S, f"the approval of {label}")
        self.installed.ask("POST", f"/api/approvals/{found['id']}", "acme", json={"decision": decision})

    def _approval(self, run_id: str) -> Row | None:
        listed = self.installed.ask("GET", "/api/approvals", "acme")["approvals"]
        return next((each for each in listed if each["runId"] == run_id), None)

    def ends(self, labels: list[str]) -> dict[str, str]:
        """By label: how the run has ended. Waits until all have, or shows in what state the others are."""
        ids = {self.installed.run_id(label): label for label in labels}
        statement = (
            "SELECT id::text, status, ended_at IS NOT NULL FROM headrace_workflows_run WHERE id = ANY(%s::uuid[])"
        )
        deadline = time.monotonic() + WITHIN_S
        while True:
            rows = self.installed.sql(statement, list(ids))
            if all(ended for _, _, ended in rows) or time.monotonic() > deadline:
                return {ids[id_]: status if ended else f"{status}: still open" for id_, status, ended in rows}
            time.sleep(0.1)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    installed = Restored("installation_0_1_0", tmp_path_factory.mktemp("restored"))
    target = HTTPServer()
    target.expect_request(re.compile(".*")).respond_with_json({"ok": True, "access_token": "a", "expires_in": 3600})
    target.start()  # type: ignore[no-untyped-call]
    try:
        made = Upgraded(installed, target)
        assert made.migration.returncode == 0, made.migration.stderr
        made.go_on()
        yield made
    finally:
        installed.stop()
        target.stop()  # type: ignore[no-untyped-call]


def test_the_migration_keeps_every_row(upgraded: Upgraded) -> None:
    assert differences(upgraded.before, upgraded.after, but=MIGRATED) == []
    assert len(upgraded.before["headrace_dlq_alertrule"]) + 1 == len(upgraded.after["headrace_dlq_alertrule"])
    added = [{row["name"] for row in rows["headrace_dlq_alertrule"]} for rows in (upgraded.before, upgraded.after)]
    assert added[1] - added[0] == {"observed-failures"}  # shipped since
    sizes = upgraded.after["headrace_throttling_defaultsize"]
    assert sizes == [{"id": 1, "size": "off"}]  # no limit of runs before, none now
    made = upgraded.installed.command("makemigrations", "--check", "--dry-run")
    assert made.returncode == 0, made.stdout


def test_tables_sequences_and_permissions_have_their_names_of_today(upgraded: Upgraded) -> None:
    former = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'S') AND relname ~ '^(workflows|throttling|dlq)_'"
    assert upgraded.installed.sql(former) == []
    types = (upgraded.before["django_content_type"], upgraded.after["django_content_type"])
    before, after = ({row["id"]: row["app_label"] for row in rows} for rows in types)
    renamed = {id_: label for id_, label in before.items() if label in {"workflows", "throttling", "dlq"}}
    assert len(renamed) > 30
    assert {id_: after[id_] for id_ in renamed} == {id_: f"headrace_{label}" for id_, label in renamed.items()}


def test_every_open_run_ends_as_it_would_have(upgraded: Upgraded) -> None:
    runs = upgraded.installed.manifest["runs"]
    assert upgraded.open == {run["id"] for run in runs.values()}
    right = {label: run["ends"] for label, run in runs.items() if label not in MAY_BE_REFUSED}
    assert upgraded.ends(list(right)) == right


def test_a_run_stays_on_its_version_and_has_its_results(upgraded: Upgraded) -> None:
    expected = {
        "everything-v1": {"version": 1, "approved": True},
        "everything-v2": {"version": 2, "approved": True},
        "await-match": 150,
        "await-callback": {"called": True},
        "await-pattern": "parcel/sent",
        "await-approval": True,
        "parent": "from the child",
        "debounced": 2,
        "batched": 2,
        "mapping": [1, 2, 3, 4, 5, 6],
        "looping": [0, 1],
        "parting": [[1, 2], [3, 4], [5]],
        "grouping": 7,
    }
    assert set(upgraded.ends(list(expected)).values()) == {"completed"}
    ids = {label: upgraded.installed.run_id(label) for label in expected}
    found = {label: upgraded.installed.ask("GET", f"/api/runs/{id_}", "acme")["output"] for label, id_ in ids.items()}
    assert found == expected


def test_what_was_done_is_not_done_again(upgraded: Upgraded) -> None:
    ends = upgraded.ends(["everything-v1", "retrying", "undoing"])
    assert set(ends.values()) <= {"completed", "failed"}
    done = "SELECT to_jsonb(s) FROM headrace_workflows_steprun s WHERE s.id = %s"
    recorded = [
        row
        for row in upgraded.before["headrace_workflows_steprun"]
        if row["status"] in {"completed", "failed", "skipped"}
    ]
    assert len(recorded) > 100
    for row in recorded:
        (now,) = upgraded.installed.sql(done, row["id"])
        assert {key: now[key] for key in ("status", "output", "attempt", "ended_at")} == {
            key: row[key] for key in ("status", "output", "attempt", "ended_at")
        }, row["key"]


@pytest.mark.parametrize(("label", "path"), MAY_BE_REFUSED.items())
def test_a_run_of_a_refused_version_goes_on_or_fails_once_with_its_path(
    upgraded: Upgraded, label: str, path: str
) -> None:
    (status,) = upgraded.ends([label]).values()
    run_id = upgraded.installed.run_id(label)
    letters = upgraded.installed.sql("SELECT error_message FROM headrace_dlq_deadletter WHERE run_id = %s", run_id)
    if status == "completed":
        assert letters == []
    else:
        assert (status, len(letters)) == ("failed", 1)
        assert path in letters[0]


def test_events_left_over_are_matched_beside_poisoned_ones(upgraded: Upgraded) -> None:
    """Red at 0.1.0: one event whose flow's schema can't be resolved stopped the matching of all."""
    for event_id in upgraded.installed.manifest["leftOver"]:
        assert upgraded.installed.await_run_of(event_id)["status"] == "completed"


def test_poisoned_events_are_given_up_with_a_word(upgraded: Upgraded) -> None:
    """Red at 0.1.0: they stayed unmatched for ever. Either their run is made and ends, or it is said why there is none."""
    unmatched = "SELECT id::text FROM headrace_workflows_event WHERE matched_at IS NULL AND id = ANY(%s::uuid[])"
    poison = upgraded.installed.manifest["poison"]
    assert len(poison) == 3
    await_that(lambda: not upgraded.installed.sql(unmatched, poison), 30, "the poisoned events are matched")
    for event_id in poison:
        said = upgraded.installed.sql(
            "SELECT reason FROM headrace_workflows_triggeroutcome WHERE event_id = %s", event_id
        )
        if said:
            assert "input_schema" in said[0]
        else:
            upgraded.installed.await_run_of(event_id)


def test_switched_off_triggers_stay_off(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    ignored, heard = installed.send("off/wanted"), installed.send("off/still-on")
    assert installed.await_run_of(heard)["status"] == "completed"
    await_that(
        lambda: installed.sql(
            "SELECT 1 FROM headrace_workflows_event WHERE id = %s AND matched_at IS NOT NULL", ignored
        )
    )
    assert installed.sql("SELECT 1 FROM headrace_workflows_run WHERE event_id = %s", ignored) == []
    of_flow = "FROM headrace_workflows_flow f JOIN headrace_workflows_trigger t ON t.flow_id = f.id WHERE f.slug = 'switched-off'"
    assert installed.sql(f"SELECT enabled {of_flow} ORDER BY t.position") == [False, False, True]
    assert installed.sql("SELECT 1 FROM headrace_workflows_cronfire c JOIN headrace_workflows_flow f ON f.id = c.flow_id WHERE f.slug = 'switched-off'") == []  # fmt: skip


def test_schedules_catch_up_by_their_policies(upgraded: Upgraded) -> None:
    fired = "SELECT outcome, count(*) FROM headrace_workflows_cronfire c JOIN headrace_workflows_flow f ON f.id = c.flow_id WHERE f.slug = 'nightly' AND c.schedule LIKE '0 3 %%' GROUP BY 1"
    outcomes = await_that(lambda: dict(upgraded.installed.sql(fired)), WITHIN_S, "the nightly run")
    assert outcomes["started"] == 1


def test_webhooks_answer_at_their_addresses_with_their_secrets(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    stored = "SELECT token, event_name, position, config FROM headrace_workflows_trigger WHERE kind = 'webhook' ORDER BY position"
    hooks = installed.manifest["webhooks"]
    assert [
        dict(zip(("token", "event_name", "position", "config"), row, strict=True)) for row in installed.sql(stored)
    ] == hooks
    assert [hook["event_name"] for hook in hooks].count("supplier/sent") == 2
    for number, hook in enumerate(hooks):
        body = json.dumps({"id": f"evt-{number}", "delivery": number}).encode()
        answer = installed.request(
            "POST", f"/hooks/{hook['token']}", content=body, headers=_signed(installed, hook, body, number)
        )
        assert (answer.status_code, answer.json()) == (200, {"received": True}), hook["event_name"]
    made = "SELECT count(*) FROM headrace_workflows_run WHERE trigger = 'webhook' AND created_at > now() - interval '1 hour' AND status = 'completed'"
    await_that(lambda: installed.sql(made) == [len(hooks)], WITHIN_S, "a run of each webhook")
    wrong = installed.request(
        "POST", f"/hooks/{hooks[0]['token']}", content=b"{}", headers=_signed(installed, hooks[1], b"{}", 9)
    )
    assert wrong.status_code == 401


def _signed(installed: Restored, hook: Row, body: bytes, number: int) -> dict[str, str]:
    """The headers of a delivery, by the scheme and the secret of a webhook."""
    secret = installed.manifest["secrets"].get(hook["config"]["secret"] or "", "").encode()
    stamp = str(int(time.time()))
    by_scheme: dict[str, dict[str, str]] = {
        "hmac": {"x-sign": hmac.new(secret, body, hashlib.sha256).hexdigest(), "x-id": f"after-{number}"},
        "github": {"x-hub-signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
                   "x-github-delivery": f"after-{number}", "x-github-event": "push"},
        "stripe": {"stripe-signature": f"t={stamp},v1={hmac.new(secret, f'{stamp}.'.encode() + body, hashlib.sha256).hexdigest()}"},
        "none": {"x-kind": "open"},
    }  # fmt: skip
    return {"content-type": "application/json", **by_scheme[hook["config"]["webhook"]]}


def test_all_step_types_run_for_a_new_run_and_secrets_are_read(upgraded: Upgraded) -> None:
    event_id = upgraded.installed.send("everything/wanted", {"id": "new"})
    run_id = await_that(
        lambda: next(
            iter(upgraded.installed.sql("SELECT id::text FROM headrace_workflows_run WHERE event_id = %s", event_id)),
            None,
        )
    )
    waiting = "SELECT 1 FROM headrace_workflows_steprun WHERE run_id = %s AND key = 'go' AND status = 'waiting'"
    await_that(lambda: upgraded.installed.sql(waiting, run_id), WITHIN_S, "the new run waits")
    given = [request.headers["Authorization"] for request, _ in upgraded.target.log if request.path == "/token"]
    clear = {unquote_plus(base64.b64decode(each.removeprefix("Basic ")).decode()) for each in given}
    assert clear == {f"id:{upgraded.installed.manifest['secrets']['API_TOKEN']}"}
    upgraded.installed.ask("POST", f"/api/runs/{run_id}/cancel", "acme")


def test_limits_with_keys_and_their_history_hold(upgraded: Upgraded) -> None:
    rows = upgraded.installed.sql(
        "SELECT scope, type, name, key, concurrency, weight FROM headrace_throttling_throttleoverride"
    )
    assert {row for row in rows if row[3] or row[5] or row[2]} == {
        ("limit", "", "crusher", "", 1, None),
        ("org", "", "", "", None, 1000.0),
        ("type", "http_request", "", "event.data.customer", 7, None),
        ("flow", "", "", "event.data.region", 2, None),
    }
    listed = upgraded.installed.ask("GET", "/api/limits/history", "acme")
    assert {"limit gone", "limit crusher"} <= {each["what"].split(" for ")[0] for each in listed}


def test_dead_letters_are_there_and_one_is_replayed(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    states = {row["status"] for row in upgraded.before["headrace_dlq_deadletter"]}
    assert states == {"failed", "ignored", "reprocessed"}
    letter = installed.manifest["deadLetter"]
    repeat = installed.ask("POST", f"/api/dlq/{letter}/replay", "acme", json={})
    again = "SELECT status FROM headrace_workflows_run WHERE id = %s AND ended_at IS NOT NULL"
    assert await_that(lambda: installed.sql(again, repeat["runId"]), WITHIN_S, "the replay") == ["completed"]
    assert installed.sql("SELECT status FROM headrace_dlq_deadletter WHERE id = %s", letter) == ["reprocessed"]


def test_an_automatic_replay_that_was_due_is_made(upgraded: Upgraded) -> None:
    due = "SELECT count(*) FROM headrace_dlq_deadletter WHERE auto_replays > 0 OR (replay_run_id IS NOT NULL AND step_type = 'sandbox_sync')"
    assert await_that(lambda: upgraded.installed.sql(due)[0], WITHIN_S, "the automatic replay")


def test_event_schemas_still_judge(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    names = [each["name"] for org in ("acme", "globex") for each in installed.ask("GET", "/api/events/schemas", org)]
    assert names == ["order/created", "globex/looks-ahead", "globex/typed"]
    refused = installed.request("POST", f"/e/{installed.manifest['keys']['acme']['event']}",
                                json={"name": "order/created", "data": {"orderId": 7}})  # fmt: skip
    assert refused.status_code == 400


def test_bulk_operations_go_on_or_stay_stopped(upgraded: Upgraded) -> None:
    states = "SELECT action, status FROM headrace_workflows_bulkoperation WHERE ended_at IS NULL ORDER BY id"
    await_that(lambda: upgraded.installed.sql(states) == [("cancel_runs", "stopped")], WITHIN_S, "the running one ends")


def test_keys_and_logins_are_accepted_and_revoked_ones_are_not(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    assert installed.ask("GET", "/api/workflows", "globex")
    page = installed.request("GET", "/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token
    answer = installed.request(
        "POST", "/login/", headers={"cookie": f"csrftoken={page.cookies['csrftoken']}"},
        data={"username": "admin", "password": "the password of the fixture", "csrfmiddlewaretoken": token.group(1)},
    )  # fmt: skip
    assert answer.status_code == 302
    revoked = [row for row in upgraded.before["headrace_workflows_accesskey"] if row["revoked_at"]]
    assert len(revoked) == 1
    assert installed.sql(
        "SELECT revoked_at IS NOT NULL FROM headrace_workflows_accesskey WHERE id = %s", revoked[0]["id"]
    ) == [True]


def test_doctor_finds_nothing_stuck(upgraded: Upgraded) -> None:
    upgraded.ends(list(upgraded.installed.manifest["runs"]))

    def stuck() -> Any:
        found = json.loads(upgraded.installed.command("doctor", "--json").stdout)
        return {name: found[name] for name in FAULTS if found[name] and name not in REFUSED_FAULTS} or (
            None if all(found["checks"].values()) else found["checks"]
        )

    await_that(lambda: not stuck(), WITHIN_S, "doctor finds nothing")


def test_a_new_version_keeps_addresses_secrets_and_what_is_switched_off(upgraded: Upgraded, tmp_path: Path) -> None:
    """Red at 0.1.0: publishing made new triggers, all of them on, and one of two addresses of a name was lost."""
    installed = upgraded.installed
    stored = """SELECT t.key, t.id::text, t.token, t.enabled, t.config FROM headrace_workflows_trigger t
                  JOIN headrace_workflows_flow f ON f.id = t.flow_id
                 WHERE f.slug IN ('hooked', 'switched-off') AND t.removed_at IS NULL ORDER BY f.slug, t.position"""
    before = installed.sql(stored)
    keys = [row[0] for row in before]
    assert keys[:2] == ["webhook-supplier-sent", "webhook-supplier-sent-2"]
    assert [row[3] for row in before][-3:] == [False, False, True]
    for slug in ("hooked", "switched-off"):
        definition = json.loads(installed.command("flows", "export", slug, "--org", "acme", "--format", "json").stdout)
        file = tmp_path / f"{slug}.json"
        file.write_text(json.dumps({**definition, "description": "another version"}))
        applied = installed.command("flows", "apply", str(file), "--org", "acme")
        assert "version 2 published" in applied.stdout, applied.stderr
    assert installed.sql(stored) == before
