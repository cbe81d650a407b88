"""The pages of dead letters: who sees them, what they refuse, and that each action does what it says."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uuid6
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dlq.listing import causes, letters
from dlq.models import DeadLetter, DeadLetterGroup
from tests.integration.dashboard.people import member
from tests.support.admin_site import said, staff, successes
from tests.support.by_hand import claim, end, fail, start
from tests.support.workers import leave_nothing, publish
from workflows import services
from workflows.errors import InvalidInput
from workflows.models import Attempt, BulkOperation, Organization, Run
from workflows.services import bulk, repair

STEPS = [{"id": "before", "type": "noop"}, {"id": "a", "type": "noop"}]
UNKNOWN = uuid.uuid4()


@pytest.fixture
def letter(org: Organization, published: list[Any]) -> Iterator[DeadLetter]:
    """Of a run whose second step failed."""
    yield failed(org)
    leave_nothing(org)


def failed(org: Organization, data: Any = None) -> DeadLetter:
    run_id = start(org, STEPS, {"n": 1} if data is None else data)
    end(claim(run_id, "before"))
    fail(run_id)
    return DeadLetter.objects.get(run_id=run_id)


@pytest.fixture
def operator(org: Organization) -> Client:
    return member(org, "operator")


def pages(letter: DeadLetter) -> list[str]:
    return [f"/letters/causes/{letter.group_id}/", f"/letters/{letter.id}/", f"/letters/{letter.id}/input.json"]


def actions(letter: DeadLetter) -> list[str]:
    of_cause = [f"/letters/causes/{letter.group_id}/{verb}/" for verb in ("assign", "snooze", "automatic", "comments")]
    of_letter = [f"/letters/{letter.id}/{verb}/" for verb in ("repair", "ignore", "reopen")]
    return [*of_cause, *of_letter, "/letters/chosen/", "/letters/bulk/start/", f"/letters/bulk/{UNKNOWN}/stop/"]


# --- who ------------------------------------------------------------------------------------------------------------


def test_a_viewer_reads_and_changes_nothing(org: Organization, letter: DeadLetter) -> None:
    viewer = member(org, "viewer")
    for path in ("/letters/", "/letters/all/", "/letters/bulk/all/", *pages(letter)):
        answer = viewer.get(path)
        assert answer.status_code == 200, path
        assert b'action="/letters/' not in answer.content or b"chosen" in answer.content, path
    for path in actions(letter):
        assert viewer.post(path, {"seen": "failed", "reason": "x"}).status_code == 403, path
    assert viewer.get("/letters/bulk/?action=resume").status_code == 403
    letter.refresh_from_db()
    assert letter.status == "failed"


def test_another_organization_finds_nothing(letter: DeadLetter, other: Organization) -> None:
    stranger = member(other, "admin")
    for path in pages(letter):
        assert stranger.get(path).status_code == 404, path
    assert str(letter.group_id) not in stranger.get("/letters/").content.decode()
    for path in actions(letter)[:7]:
        assert stranger.post(path, {"seen": "failed", "text": "x", "reason": "x", "for": "1h"}).status_code == 404, path
    answer = stranger.post("/letters/chosen/", {"letter": f"{letter.id}:failed", "action": "resume"}, follow=True)
    assert "no such dead letter" in said(answer)[0][1]
    letter.refresh_from_db()
    assert (letter.status, letter.group.comments.count()) == ("failed", 0)


def test_nobody_without_a_login_gets_in(letter: DeadLetter) -> None:
    for path in ("/letters/", *pages(letter), *actions(letter)):
        answer = Client().get(path)
        assert (answer.status_code, answer["Location"].startswith("/login/")) == (302, True), path


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["status=none", "care=me", "page=0", "page=-1", "page=9999999999", "search=%00"])
def test_nonsense_in_the_list_of_causes_is_refused_with_a_sentence(operator: Client, query: str) -> None:
    assert operator.get(f"/letters/?{query}").status_code == 422


@pytest.mark.parametrize(
    "query", ["status=none", "cursor=x", "run=x", "search=%00", "flow=%00", "status=all"]
)  # fmt: skip
def test_nonsense_in_the_list_of_letters_is_refused_with_a_sentence(operator: Client, query: str) -> None:
    assert operator.get(f"/letters/all/?{query}").status_code == 422


@pytest.mark.parametrize(
    "query", ["", "action=none", "action=resume&pace=x", "action=resume&pace=-1", "action=resume&pace=nan",
              "action=resume&until=x", "action=resume&pace=1e9", "action=resume&search=%00"],
)  # fmt: skip
def test_nonsense_for_a_bulk_operation_starts_none(operator: Client, org: Organization, query: str) -> None:
    assert operator.get(f"/letters/bulk/?{query}").status_code == 422
    fields = dict(part.split("=") for part in query.replace("%00", "\0").split("&") if part)
    assert operator.post("/letters/bulk/start/", fields).status_code in {400, 422}  # 400: a NUL, at the edge
    assert not BulkOperation.objects.filter(org_id=org.id).exists()


@pytest.mark.parametrize(
    ("verb", "fields"),
    [("snooze", {"for": "x"}), ("snooze", {"for": "0"}), ("snooze", {"for": "400d"}), ("automatic", {"after": "x"}),
     ("automatic", {"after": "8d"}), ("comments", {"text": " "}), ("comments", {"text": "x" * 10_001}),
     ("assign", {"assignee": "x" * 201})],
)  # fmt: skip
def test_nonsense_about_a_cause_changes_nothing(
    operator: Client, letter: DeadLetter, verb: str, fields: dict[str, str]
) -> None:
    answer = operator.post(f"/letters/causes/{letter.group_id}/{verb}/", fields, follow=True)
    assert [level for level, _ in said(answer)] == [40]
    assert letter.group.comments.count() == 0


@pytest.mark.parametrize("data", ["", "{", '{"a": 1} x', "[" * 100_000, "NaN-"])
def test_a_payload_that_is_no_json_stays_in_the_form(operator: Client, letter: DeadLetter, data: str) -> None:
    answer = operator.post(f"/letters/{letter.id}/repair/", {"seen": "failed", "data": data, "mode": "start"})
    assert answer.status_code == 422
    assert answer.context["text"] == data
    assert letter.changes.count() == 0


def test_a_letter_that_has_changed_since_it_was_seen_is_left_alone(operator: Client, letter: DeadLetter) -> None:
    for verb in ("repair", "ignore"):
        answer = operator.post(f"/letters/{letter.id}/{verb}/", {"seen": "ignored", "reason": "x"}, follow=True)
        assert "was ignored when you looked, and is failed now" in said(answer)[0][1]
    letter.refresh_from_db()
    assert (letter.status, letter.changes.count()) == ("failed", 0)


def test_an_address_to_go_back_to_is_on_this_site(operator: Client, letter: DeadLetter) -> None:
    for back in ("https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)"):
        answer = operator.post("/letters/chosen/", {"back": back})
        assert answer["Location"] == "/letters/"


# --- what is done ---------------------------------------------------------------------------------------------------


def test_a_letter_is_resumed_with_what_was_done_before(operator: Client, org: Organization, letter: DeadLetter) -> None:
    answer = operator.post(f"/letters/{letter.id}/repair/", {"seen": "failed", "mode": "resume"}, follow=True)
    (text,) = successes(answer)
    assert "with the outcomes of 1 step kept" in text
    run = Run.objects.get(origin_id=letter.run_id)
    assert str(run.id) in text
    assert f"/runs/{run.id}/" in answer.content.decode()


def test_a_letter_of_a_flow_that_was_changed_since_is_resumed_in_either_version(
    operator: Client, org: Organization, letter: DeadLetter
) -> None:
    assert "Resume in version" not in operator.get(f"/letters/{letter.id}/").content.decode()
    publish(org, [*STEPS, {"id": "c", "type": "noop"}], slug=letter.flow.slug)
    assert "Resume in version 2" in operator.get(f"/letters/{letter.id}/").content.decode()
    fields = {"seen": "failed", "mode": "resume", "version": "current"}
    assert operator.post(f"/letters/{letter.id}/repair/", {**fields, "version": "x"}).status_code == 302
    assert not Run.objects.filter(origin_id=letter.run_id).exists(), "what is no version repairs nothing"
    assert successes(operator.post(f"/letters/{letter.id}/repair/", fields, follow=True))
    assert Run.objects.get(origin_id=letter.run_id).version.number == 2


def test_all_letters_of_a_cause_are_resumed_in_the_version_that_mends_them(
    operator: Client, org: Organization, letter: DeadLetter
) -> None:
    publish(org, [*STEPS, {"id": "c", "type": "noop"}], slug=letter.flow.slug)
    fields = {"action": "resume", "pace": "1000", "group": str(letter.group_id), "version": "current"}
    assert operator.post("/letters/bulk/start/", {**fields, "version": "x"}).status_code == 422
    assert operator.post("/runs/matching/resume/?status=failed", {"pace": "5", "version": "x"}).status_code == 422
    assert not BulkOperation.objects.filter(org_id=org.id).exists()
    assert 'name="version"' in operator.get(f"/letters/bulk/?action=resume&group={letter.group_id}").content.decode()
    assert (
        'name="version"' not in operator.get(f"/letters/bulk/?action=replay&group={letter.group_id}").content.decode()
    )
    operator.post("/letters/bulk/start/", fields)
    turned(lambda: BulkOperation.objects.get(org_id=org.id).status == "completed")
    assert Run.objects.get(origin_id=letter.run_id).version.number == 2


def test_an_edited_payload_is_shown_before_it_is_replayed(operator: Client, letter: DeadLetter) -> None:
    data = json.dumps({"n": 2, "<b>": "x"})
    fields = {"seen": "failed", "mode": "start", "data": data}
    preview = operator.post(f"/letters/{letter.id}/repair/", {**fields, "preview": "yes"})
    text = preview.content.decode()
    assert '<div class="removed">-  &quot;n&quot;: 1' in text
    assert '<div class="added">+  &quot;n&quot;: 2' in text
    assert not Run.objects.filter(origin_id=letter.run_id).exists()
    assert preview.context["data"] == data
    assert successes(operator.post(f"/letters/{letter.id}/repair/", fields, follow=True))
    run = Run.objects.get(origin_id=letter.run_id)
    assert (run.input["n"], run.input["_dlqItemId"]) == (2, str(letter.id))


def test_an_ignored_letter_can_be_opened_again(operator: Client, letter: DeadLetter) -> None:
    path = f"/letters/{letter.id}"
    assert successes(operator.post(f"{path}/ignore/", {"seen": "failed", "reason": "a test"}, follow=True))
    page = operator.get(f"{path}/").content.decode()
    assert "a test" in page
    assert successes(operator.post(f"{path}/reopen/", {"seen": "ignored"}, follow=True))
    letter.refresh_from_db()
    assert (letter.status, letter.changes.count()) == ("failed", 2)


def test_each_refused_letter_of_those_chosen_is_named(operator: Client, org: Organization, letter: DeadLetter) -> None:
    second = failed(org)
    operator.post(f"/letters/{second.id}/ignore/", {"seen": "failed", "reason": "gone"}, follow=True)
    chosen = [f"{letter.id}:failed", f"{second.id}:failed", "x:failed", f"{UNKNOWN}:failed"]
    answer = operator.post("/letters/chosen/", {"letter": chosen, "action": "ignore", "reason": "both"}, follow=True)
    texts = [text for _, text in said(answer)]
    assert texts[0] == "1 of 4 letters are ignored."
    assert [str(second.id) in texts[1], "x is not" in texts[2], str(UNKNOWN) in texts[3]] == [True] * 3
    second.refresh_from_db()
    letter.refresh_from_db()
    assert (letter.reason, second.reason) == ("both", "gone")


def test_a_cause_is_cared_for(operator: Client, letter: DeadLetter) -> None:
    path = f"/letters/causes/{letter.group_id}"
    for verb, fields in (
        ("assign", {"me": "yes"}), ("automatic", {"after": "5m"}), ("comments", {"text": "it is <b>theirs"}),
        ("snooze", {"for": "1h"}),
    ):  # fmt: skip
        assert successes(operator.post(f"{path}/{verb}/", fields, follow=True)), verb
    group = DeadLetterGroup.objects.get(id=letter.group_id)
    assert (group.assigned_to[:9], group.auto_replay_s, group.snoozed_until is None) == ("operator-", 300, False)
    page = operator.get(f"{path}/").content.decode()
    assert "it is &lt;b&gt;theirs" in page
    assert '<option value="5m" selected>' in page
    assert str(letter.group_id) not in operator.get("/letters/").content.decode()
    assert str(letter.group_id) in operator.get("/letters/?snoozed=yes&care=mine").content.decode()
    assert str(letter.group_id) not in operator.get("/letters/?snoozed=yes&care=nobody").content.decode()
    assert successes(operator.post(f"{path}/snooze/", {"for": ""}, follow=True))
    assert str(letter.group_id) in operator.get("/letters/").content.decode()


def test_the_form_of_a_cause_has_the_value_that_holds(operator: Client, letter: DeadLetter) -> None:
    DeadLetterGroup.objects.filter(id=letter.group_id).update(auto_replay_s=420)
    page = operator.get(f"/letters/causes/{letter.group_id}/").content.decode()
    assert '<option value="420s" selected>after 7m</option>' in page


def test_a_letter_with_many_tries_reads_no_log(operator: Client, letter: DeadLetter) -> None:
    (first,) = Attempt.objects.filter(step_run_id=letter.step_run_id)
    for number in range(2, 12):
        first.id, first.number, first._state.adding = uuid6.uuid7(), number, True
        first.save(force_insert=True)
    with CaptureQueriesContext(connection) as queries:
        assert len(operator.get(f"/letters/{letter.id}/").context["tries"]) == 11
    assert not [query["sql"] for query in queries if '"logs"' in query["sql"]]


def test_all_letters_of_a_cause_are_resumed_in_bulk_and_later_ones_are_not(
    operator: Client, org: Organization, letter: DeadLetter
) -> None:
    second = failed(org)
    assert second.group_id == letter.group_id
    preview = operator.get(f"/letters/bulk/?action=resume&group={letter.group_id}&pace=1000")
    assert preview.context["draft"].matched == 2
    trial = operator.get(f"/letters/bulk/trial/?{preview.context['query']}").content.decode()
    assert "All of the first 2 would be resumed from the failed step: 2 outcomes of steps are kept, 2 steps" in trial
    assert not Run.objects.filter(origin_id=letter.run_id).exists()
    later = failed(org)
    answer = operator.post("/letters/bulk/start/", {"action": "resume", "pace": "1000", **preview.context["where"]})
    operation = BulkOperation.objects.get(org_id=org.id)
    assert answer["Location"] == f"/letters/bulk/{operation.id}/"
    turned(lambda: BulkOperation.objects.get(id=operation.id).status == "completed")
    part = operator.get(f"/letters/bulk/{operation.id}/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "2 of 2 looked at" in part
    statuses = dict(DeadLetter.objects.filter(group_id=letter.group_id).values_list("id", "status"))
    assert statuses == {letter.id: "reprocessed", second.id: "reprocessed", later.id: "failed"}
    assert "there is nothing to stop" in said(operator.post(f"/letters/bulk/{operation.id}/stop/", follow=True))[0][1]


def test_the_dry_run_is_of_the_version_in_which_they_are_resumed(
    operator: Client, org: Organization, letter: DeadLetter
) -> None:
    publish(org, [*STEPS, {"id": "after", "type": "noop"}])
    page = operator.get(f"/letters/bulk/?action=resume&group={letter.group_id}")
    address = f"/letters/bulk/trial/?{page.context['query']}"
    assert "1 outcomes of steps are kept, 1 steps are done" in operator.get(f"{address}&version=same").content.decode()
    assert (
        "1 outcomes of steps are kept, 2 steps are done" in operator.get(f"{address}&version=current").content.decode()
    )
    assert operator.get(f"{address}&version=old").status_code == 422
    assert 'id="bulk-version"' in page.content.decode()
    start = {"action": "resume", "pace": "1", "version": "old", **page.context["where"]}
    assert operator.post("/letters/bulk/start/", start).status_code == 422
    with pytest.raises(InvalidInput, match="version 'old' is unknown"):
        repair.options("resume", "old", force=False)
    with pytest.raises(InvalidInput, match="mode 'sideways' is unknown"):
        repair.options("sideways", None, force=False)
    assert not BulkOperation.objects.filter(org_id=org.id).exists()


def turned(is_done: Callable[[], bool]) -> None:
    for _ in range(200):
        bulk.pump()
        if is_done():
            return
    raise AssertionError("the operation does not end")


def test_a_bulk_operation_is_stopped_and_goes_on(operator: Client, org: Organization, letter: DeadLetter) -> None:
    fields = {"action": "ignore", "reason": "a flood", "pace": "0.1", "group": str(letter.group_id)}
    operator.post("/letters/bulk/start/", fields)
    operation = BulkOperation.objects.get(org_id=org.id)
    assert successes(operator.post(f"/letters/bulk/{operation.id}/stop/", follow=True)) == ["It is stopped."]
    assert successes(operator.post(f"/letters/bulk/{operation.id}/stop/", follow=True)) == [], "it was before"
    assert "stopped" in operator.get("/letters/bulk/all/").content.decode()
    assert successes(operator.post(f"/letters/bulk/{operation.id}/resume/", follow=True)) == ["It goes on."]
    assert operator.post(f"/letters/bulk/{operation.id}/delete/").status_code == 404
    letter.refresh_from_db()
    assert letter.status == "failed"


def test_operations_on_other_things_are_not_among_them(operator: Client, org: Organization, letter: DeadLetter) -> None:
    of_runs = bulk.start(org, "cancel_runs", {}, by="test")
    assert operator.get(f"/letters/bulk/{of_runs.id}/").status_code == 404
    assert operator.post(f"/letters/bulk/{of_runs.id}/stop/").status_code == 404
    assert str(of_runs.id) not in operator.get("/letters/bulk/all/").content.decode()
    bulk.stop(org, of_runs.id, by="test")


def test_a_list_looks_at_so_many_letters_and_says_so(
    operator: Client, org: Organization, letter: DeadLetter, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(org, {"n": 2})
    monkeypatch.setattr(letters, "LOOKED_AT", 1)
    monkeypatch.setattr(causes, "LOOKED_AT", 50)
    first = operator.get("/letters/all/?search=nothing-of-it")
    found = first.context["letters"]
    assert (found.letters, found.searched_to is not None) == ([], True)
    assert "Searched back to" in first.content.decode()
    second = operator.get(f"/letters/all/?search=no&cursor={found.next_cursor}").context["letters"]
    assert [each.id for each in second.letters] == [letter.id]


def test_a_page_of_letters_reads_no_payload(operator: Client, letter: DeadLetter) -> None:
    for path in ("/letters/", "/letters/all/", f"/letters/causes/{letter.group_id}/"):
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(path).status_code == 200
        assert not [query["sql"] for query in queries if '"event_data"' in query["sql"].partition(" FROM ")[0]], path
        assert len(queries) < 25, path


def test_the_dead_letters_of_a_flow_without_code_are_listed_by_the_text_of_their_error(
    operator: Client, org: Organization, letter: DeadLetter
) -> None:
    publish(org, STEPS, slug="quiet")
    services.trigger(org, "quiet")
    assert str(letter.group_id) in operator.get("/letters/?search=NonRetriable").content.decode()
    assert str(letter.group_id) not in operator.get("/letters/?search=100%25").content.decode()
    assert staff(superuser=True).get(f"/letters/?org={org.slug}").status_code == 200
