"""Dead letters: one per failure for good, grouped by cause; replayed, resumed, edited, ignored, and replayed by themselves."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Response

from dlq import selectors, services
from dlq.errors import AlreadyHandled, DeadLetterNotFound, GroupNotFound
from dlq.models import DeadLetter, DeadLetterGroup
from tests.support.workers import await_end, await_that, by_key, nobody_dispatches, publish, run_to_end, statuses
from workflows import services as workflows
from workflows.engine.repair import on_failure
from workflows.errors import AlreadyRepaired, InvalidInput, RunNotEnded
from workflows.models import Organization, Run
from workflows.selectors.runs import run_detail
from workflows.services import repair

pytestmark = pytest.mark.usefixtures("workers")
ONCE = {"attempts": 1}


def call(httpserver: HTTPServer, key: str, status: int = 200, **more: Any) -> dict[str, Any]:
    """A step that leaves a trace at the server."""
    httpserver.expect_request(f"/{key}").respond_with_json({"by": key}, status=status)
    config = {"url": httpserver.url_for(f"/{key}"), "method": "POST"}
    return {"id": key, "type": "http_request", "config": config, "retry": ONCE, **more}


def repaired(httpserver: HTTPServer, *keys: str) -> None:
    """From now on the server answers these with success."""
    httpserver.clear_all_handlers()
    for key in keys:
        httpserver.expect_request(f"/{key}").respond_with_json({"by": key})


def called(httpserver: HTTPServer) -> list[str]:
    return [request.path.strip("/") for request, _ in httpserver.log]


def letter_of(org: Organization) -> DeadLetter:
    return DeadLetter.objects.get(org_id=org.id, status="failed")


SLEEPS = [{"id": "a", "type": "delay", "config": {"for": "1h"}}]
"""A version whose run goes on, so that a replay has not failed again by the time when a test looks."""


def failing(org: Organization, data: Any = None, **more: Any) -> DeadLetter:
    """The dead letter of a flow that fails at its only step."""
    steps = [{"id": "a", "type": "raises", "config": {"how": "final"}}]
    run_to_end(org, steps, {"n": 1} if data is None else data, **more)
    return letter_of(org)


def test_a_dead_letter_has_its_columns(org: Organization) -> None:
    letter = failing(org, {"orderId": 7})
    detail = run_detail(org, letter.run_id)
    assert (letter.event_name, letter.event_data, letter.attempts) == ("headrace/manual", {"orderId": 7}, 1)
    assert (letter.error_name, letter.error_message, letter.status) == ("NonRetriable", "no use", "failed")
    assert "NonRetriable: no use" in letter.error_stack
    assert (letter.step_key, letter.step_type, letter.category) == ("a", "raises", "business")
    assert (letter.step_run_id, letter.reprocessed_at) == (by_key(detail)["a"].step_run.id, None)
    group = letter.group
    assert (group.step_type, group.message, group.location) == ("raises", "no use", "probes.py:fail")


def test_a_failure_that_is_not_critical_is_buried_too(org: Organization) -> None:
    steps = [{"id": "a", "type": "raises", "config": {"how": "final"}, "critical": False}, {"id": "b", "type": "noop"}]
    assert run_to_end(org, steps).run.status == "completed"
    assert letter_of(org).step_key == "a"


# --- repair --------------------------------------------------------------------------------------------------------

FIVE = ["step-1-initialize", "step-2-process", "step-3-simulate-delay", "step-4-simulate-api-call", "step-5-finalize"]


def test_a_resume_keeps_what_was_done(org: Organization, httpserver: HTTPServer) -> None:
    """The five-step demo task, each step with a side effect: steps 1 to 3 are executed once in total."""
    steps = [call(httpserver, key, 500 if key == FIVE[3] else 200) for key in FIVE]
    steps[4]["config"]["json"] = {"before": "${ steps['step-1-initialize'].output.body.by }"}
    first = run_to_end(org, steps, {"taskId": "t"}, output="${ steps['step-5-finalize'].output.body }")
    assert (first.run.status, called(httpserver)) == ("failed", FIVE[:4])

    repaired(httpserver, *FIVE)
    letter = letter_of(org)
    dry = services.replay(org, letter.id, by="me", mode="resume", dry_run=True)
    assert (dry.run_id, dry.kept, dry.runs) == (None, FIVE[:3], FIVE[3:])
    assert letter_of(org).id == letter.id  # nothing was done

    repeat = services.replay(org, letter.id, by="me", mode="resume")
    second = await_end(org, repeat.run_id)
    assert second.run.status == "completed"
    assert called(httpserver) == [*FIVE[:4], *FIVE[3:]]
    assert httpserver.log[-1][0].get_json() == {"before": FIVE[0]}
    kept = by_key(second)[FIVE[0]]
    assert (kept.attempts, kept.step_run.memoized_from) == ([], by_key(first)[FIVE[0]].step_run.id)

    letter.refresh_from_db()
    assert (letter.status, letter.replay_run_id, letter.reprocessed_at is None) == ("reprocessed", repeat.run_id, False)
    assert (second.run.origin_id, second.run.origin_kind) == (first.run.id, "resume")
    assert run_detail(org, first.run.id).repeats == [{"id": str(repeat.run_id), "kind": "resume"}]
    assert second.run.input == {"taskId": "t", "_dlqReprocessed": True, "_dlqItemId": str(letter.id)}


def test_a_replay_begins_anew_on_the_current_version(org: Organization, httpserver: HTTPServer) -> None:
    steps = [call(httpserver, "a"), call(httpserver, "b", 500)]
    run_to_end(org, steps, {"n": 1})
    repaired(httpserver, "a", "c")
    publish(org, [call(httpserver, "a"), call(httpserver, "c")])
    repeat = services.replay(org, letter_of(org).id, by="me")
    assert statuses(await_end(org, repeat.run_id)) == {"a": "completed", "c": "completed"}
    assert called(httpserver) == ["a", "b", "a", "c"]


def test_a_resume_on_the_current_version_takes_over_what_is_still_there(
    org: Organization, httpserver: HTTPServer
) -> None:
    run_to_end(org, [call(httpserver, "a"), call(httpserver, "b", 500)], {})
    repaired(httpserver, "a", "b2")
    publish(org, [call(httpserver, "a"), call(httpserver, "b2")])
    repeat = services.replay(org, letter_of(org).id, by="me", mode="resume", version="current")
    assert (repeat.kept, repeat.runs) == (["a"], ["b2"])
    await_end(org, repeat.run_id)
    assert called(httpserver) == ["a", "b", "b2"]


def test_what_was_undone_is_done_again_by_a_resume(org: Organization, httpserver: HTTPServer) -> None:
    steps = [call(httpserver, "book", on_failure="unbook"), call(httpserver, "free"), call(httpserver, "pay", 500, needs=["book"]),
             call(httpserver, "unbook")]  # fmt: skip
    steps[1]["needs"] = []
    run_to_end(org, steps, {})
    assert sorted(called(httpserver)) == ["book", "free", "pay", "unbook"]
    repaired(httpserver, "book", "free", "pay", "unbook")
    repeat = services.replay(org, letter_of(org).id, by="me", mode="resume")
    await_end(org, repeat.run_id)
    assert called(httpserver)[4:] == ["book", "pay"]


def test_a_payload_is_edited_checked_and_its_difference_kept(org: Organization) -> None:
    schema = {
        "type": "object",
        "required": ["n"],
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    script = "if input['n'] < 0:\n    raise ValueError('negative')\nreturn input['n']"
    steps = [{"id": "a", "type": "data_transform", "config": {"script": script}, "retry": ONCE}]
    run_to_end(org, steps, {"n": -1}, input_schema=schema)
    letter = letter_of(org)
    with pytest.raises(InvalidInput, match=r"input\.n"):
        services.replay(org, letter.id, by="me", data={"n": "seven"})
    assert letter_of(org).id == letter.id
    repeat = services.replay(org, letter.id, by="me", data={"n": 7})
    detail = await_end(org, repeat.run_id)
    assert detail.run.status == "completed"
    assert detail.run.input["_dlqItemId"] == str(letter.id)  # although the schema knows no such field
    change = letter.changes.get()
    assert (change.what, change.by, change.patch) == ("replayed", "me", [{"op": "replace", "path": "/n", "value": 7}])


def test_a_letter_is_replayed_once(org: Organization) -> None:
    letter = failing(org)
    publish(org, SLEEPS)
    first = services.replay(org, letter.id, by="me")
    with pytest.raises(AlreadyRepaired, match=str(first.run_id)):
        services.replay(org, letter.id, by="you")
    with pytest.raises(AlreadyHandled):
        services.ignore(org, letter.id, by="you", reason="why not")


def test_the_letters_of_one_run_are_replayed_together(org: Organization) -> None:
    """Two steps of a run have failed: repairing the run twice would do its work twice."""
    raises = {"type": "raises", "config": {"how": "final"}, "critical": False, "needs": []}
    detail = run_to_end(org, [{"id": "a", **raises}, {"id": "b", **raises}, {"id": "c", "type": "noop", "needs": []}])
    one, two = DeadLetter.objects.filter(org_id=org.id).order_by("step_key")
    with nobody_dispatches():  # a repair that has failed by then may be repeated
        repeat = services.replay(org, one.id, by="me", mode="resume")
        assert (repeat.runs, repeat.kept) == (["a", "b"], ["c"])
        assert not DeadLetter.objects.filter(run_id=detail.run.id, status="failed").exists()
        with pytest.raises(AlreadyRepaired):
            services.replay(org, two.id, by="me")


def test_a_run_that_goes_on_is_not_repeated(org: Organization) -> None:
    steps = [{"id": "a", "type": "raises", "config": {"how": "final"}, "critical": False, "needs": []},
             {"id": "b", "type": "delay", "config": {"for": "1h"}, "needs": []}]  # fmt: skip
    (run_id,) = workflows.trigger(org, publish(org, steps)).run_ids
    letter = await_that(lambda: DeadLetter.objects.filter(run_id=run_id).first())
    with pytest.raises(RunNotEnded):
        services.replay(org, letter.id, by="me")
    workflows.cancel_run(org, run_id)


def test_ignoring_wants_a_reason_and_can_be_taken_back(org: Organization) -> None:
    letter = failing(org)
    with pytest.raises(InvalidInput):
        services.ignore(org, letter.id, by="me", reason="  ")
    services.ignore(org, letter.id, by="me", reason="a test")
    with pytest.raises(AlreadyHandled):
        services.replay(org, letter.id, by="me")
    services.reopen(org, letter.id, by="you")
    assert letter_of(org).id == letter.id
    assert [(c.what, c.by, c.reason) for c in letter.changes.all()] == [
        ("ignored", "me", "a test"),
        ("reopened", "you", ""),
    ]


def test_letters_belong_to_their_organization(org: Organization) -> None:
    letter = failing(org)
    other = Organization.objects.create(slug=f"o-{uuid4().hex[:12]}", name="Other")
    for verb in (
        lambda: services.replay(other, letter.id, by="x"),
        lambda: services.ignore(other, letter.id, by="x", reason="x"),
        lambda: selectors.detail(other, letter.id),
    ):
        with pytest.raises(DeadLetterNotFound):
            verb()
    with pytest.raises(GroupNotFound):
        services.find_group(other, letter.group_id)


# --- forks ---------------------------------------------------------------------------------------------------------


def test_a_fork_takes_over_what_comes_before_and_reads_the_changed_input(org: Organization) -> None:
    step = {"type": "data_transform", "config": {"expression": "input.n"}}
    detail = run_to_end(org, [{"id": key, **step} for key in ("a", "b", "c")], {"n": 1})
    repeat = repair.fork_run(org, detail.run.id, ["b"], new_input={"n": 2})
    assert (repeat.kept, repeat.changes) == (["a"], [{"op": "replace", "path": "/n", "value": 2}])
    forked = await_end(org, repeat.run_id)
    assert {key: each.step_run.output for key, each in by_key(forked).items()} == {"a": 1, "b": 2, "c": 2}
    assert (forked.run.origin_kind, forked.run.status) == ("fork", "completed")


def test_a_fork_keeps_branches_and_joins(org: Organization) -> None:
    branches = [{"if": "input.big", "then": ["large"]}]
    steps = [
        {"id": "decide", "type": "conditional", "config": {"branches": branches, "else": ["small"]}},
        {"id": "large", "type": "noop"},
        {"id": "small", "type": "noop"},
        {"id": "aside", "type": "noop", "needs": []},
        {"id": "join", "type": "noop", "needs": ["large", "small", "aside"]},
    ]
    detail = run_to_end(org, steps, {"big": True})
    for again, runs in ((["aside"], {"aside", "join"}), (["large"], {"large", "join"}), (["join"], {"join"})):
        repeat = repair.fork_run(org, detail.run.id, again)
        assert set(repeat.runs) == runs
        assert statuses(await_end(org, repeat.run_id)) == {**statuses(detail), "small": "skipped"}
    flipped = await_end(org, repair.fork_run(org, detail.run.id, ["decide"], new_input={"big": False}).run_id)
    assert statuses(flipped) == {**statuses(detail), "large": "skipped", "small": "completed"}


def test_a_fork_of_a_fork_names_the_first_outcome(org: Organization) -> None:
    detail = run_to_end(org, [{"id": key, "type": "noop"} for key in "abc"])
    second = await_end(org, repair.fork_run(org, detail.run.id, ["c"]).run_id)
    third = await_end(org, repair.fork_run(org, second.run.id, ["b"]).run_id)
    assert by_key(third)["a"].step_run.memoized_from == by_key(detail)["a"].step_run.id


@pytest.mark.parametrize(("again", "says"), [([], "at least one"), (["x"], "'x' is no step")])
def test_a_bad_fork_is_refused(org: Organization, again: list[str], says: str) -> None:
    detail = run_to_end(org, [{"id": "a", "type": "noop"}])
    with pytest.raises(InvalidInput, match=says):
        repair.fork_run(org, detail.run.id, again)
    with pytest.raises(InvalidInput, match="nothing to resume"):
        repair.replay(org, detail.run.id, by="me", mode="resume")


def test_a_resume_after_a_fallback_failed_tries_the_primary_first(org: Organization, httpserver: HTTPServer) -> None:
    run_to_end(org, [call(httpserver, "p", 500), call(httpserver, "f", 500, fallback_for="p")], {})
    repaired(httpserver, "p", "f")
    repeat = services.replay(org, letter_of(org).id, by="me", mode="resume")
    assert statuses(await_end(org, repeat.run_id)) == {"p": "completed", "f": "skipped"}


# --- groups --------------------------------------------------------------------------------------------------------


def test_groups_count_their_letters_and_remember_who_does_what(org: Organization) -> None:
    slug = publish(org, [{"id": "a", "type": "raises", "config": {"how": "unknown", "say": "order ${ input.n }"},
                          "retry": ONCE}])  # fmt: skip
    workflows.trigger_many(org, slug, [{"n": f"'{n}'"} for n in range(5)])
    publish(org, [{"id": "a", "type": "raises", "config": {"how": "final"}}], slug="other")
    workflows.trigger(org, "other")
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id).count() == 6)
    many, one = sorted(selectors.groups(org), key=lambda group: -group.failed)
    assert (many.failed, many.total, many.history[-1] + many.history[-2]) == (5, 5, 5)
    assert (many.group.message, one.failed) == ("order <value>", 1)

    services.assign(org, many.group.id, to="ada", by="me")
    services.comment(org, many.group.fingerprint[:8], text="It is the new parser.", by="ada")
    services.snooze(org, many.group.id, until=timezone.now() + dt.timedelta(hours=1), by="ada")
    assert [group.group.id for group in selectors.groups(org)] == [one.group.id]
    assert len(selectors.groups(org, snoozed=True)) == 2
    summary = selectors.group_summary(org, DeadLetterGroup.objects.get(id=many.group.id))
    assert [comment.text for comment in summary.comments][:2] == ["assigned to ada", "It is the new parser."]
    services.snooze(org, many.group.id, until=None, by="ada")
    assert len(selectors.groups(org)) == 2
    with pytest.raises(InvalidInput):
        services.snooze(org, many.group.id, until=timezone.now() - dt.timedelta(hours=1), by="ada")

    counts = selectors.stats(org)
    assert (counts["failed"], counts["groups"], counts["lastHour"]) == (6, 2, 6)
    assert counts["byCategory"] == {"transient": 5, "business": 1}
    assert counts["byWorkflow"] == {"flow": 5, "other": 1}


# --- automatic replay ----------------------------------------------------------------------------------------------


def due_now(org: Organization) -> None:
    """The five minutes are over."""
    DeadLetter.objects.filter(org_id=org.id, status="failed").exclude(auto_replay_at=None).update(
        auto_replay_at=timezone.now()
    )


def test_rate_limited_letters_are_resumed_by_themselves_up_to_three_times(
    org: Organization, httpserver: HTTPServer
) -> None:
    steps = [call(httpserver, "a"), call(httpserver, "b", 429)]
    run_to_end(org, steps, {})
    failed_in: list[UUID] = []
    for _ in range(3):
        letter = await_that(lambda: DeadLetter.objects.filter(org_id=org.id, status="failed").first())
        assert 290 < (letter.auto_replay_at - letter.failed_at).total_seconds() <= 300
        failed_in.append(letter.run_id)
        due_now(org)
        anew = DeadLetter.objects.filter(org_id=org.id, status="failed").exclude(run_id__in=list(failed_in))
        await_that(anew.all().exists, 20)
    last = letter_of(org)
    assert last.auto_replay_at is None  # from here on it is a person's
    assert called(httpserver) == ["a", "b", "b", "b", "b"]
    assert Run.objects.filter(org_id=org.id).count() == 4
    assert DeadLetter.objects.filter(org_id=org.id).count() == 1
    assert [change.by for change in last.changes.filter(what="resumed")] == ["automatic replay"] * 3
    assert [change.run_id for change in last.changes.filter(what="failed again")] == [*failed_in[1:], last.run_id]


def test_a_group_says_itself_whether_it_is_replayed(org: Organization) -> None:
    letter = failing(org)
    assert letter.auto_replay_at is None
    services.set_auto_replay(org, letter.group_id, after_s=60, by="me")
    services.ignore(org, letter.id, by="me", reason="seen")
    again = failing(org)
    assert again.auto_replay_at is not None
    assert 55 < (again.auto_replay_at - again.failed_at).total_seconds() <= 60


def test_the_signal_of_a_run_s_own_failure_names_no_step(org: Organization, httpserver: HTTPServer) -> None:
    """A letter without a step can be replayed, and a resume only renders the output again."""
    httpserver.expect_request("/x").respond_with_response(Response("{}", content_type="application/json"))
    run_to_end(org, [call(httpserver, "a")], {}, output="${ steps.a.output.body.missing }")
    publish(org, [call(httpserver, "a")], output="${ steps.a.output.body.by }")
    repeat = services.replay(org, letter_of(org).id, by="me", mode="resume", version="current")
    detail = await_end(org, repeat.run_id)
    assert (detail.run.status, detail.run.output, repeat.runs) == ("completed", "a", [])
    assert called(httpserver) == ["a"]
    assert on_failure.follow_up() == 0
