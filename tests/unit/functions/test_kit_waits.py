"""The test kit: waits, events, children, time, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from tests.support.python_flows import kit as flows
from workflows.errors import InvalidInput
from workflows.functions.failures import Nondeterminism
from workflows.functions.testing import FlowKit, FlowRun, FlowTestError, NotStubbed

NEW_YEAR = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def kit() -> FlowKit:
    made = FlowKit(at=NEW_YEAR)
    made.stub("mail", None)
    return made


def onboarded(kit: FlowKit) -> FlowRun:
    return kit.start(flows.onboarding, {"user": "u1", "plan": "pro"})


def test_a_flow_waits_for_a_callback_a_decision_an_event_and_a_time(kit: FlowKit) -> None:
    run = onboarded(kit)
    assert run.waiting_for == ["confirmed: its callback until 2030-01-08T00:00:00+00:00"]
    run.advance("6d").call_back("confirmed", {"ok": True})
    assert run.entry("confirmed").output == {"ok": True}
    run.approve("grant", by="anna", comment="fine")
    run.send("kit/paid", {"user": "u2", "cents": 500}).send("kit/paid", {"user": "u1", "cents": 100})
    assert run.entry("paid").status == "waiting"
    run.send("kit/paid", {"user": "u1", "cents": 900})
    assert run.waiting_for == ["new-year: sleeps until 2031-01-01T00:00:00+00:00"]
    assert run.status == "waiting"


def test_the_timeout_of_a_run_cancels_it(kit: FlowKit) -> None:
    run = onboarded(kit)
    run.call_back("confirmed", 1).approve("grant").advance("30d")
    assert run.status == "cancelled"
    assert "timeouts.finish" in run.cancel_reason
    assert [entry.status for entry in run.journal] == [*["completed"] * 4, "cancelled"]


def test_waits_time_out_and_decisions_are_refusals_too(kit: FlowKit) -> None:
    assert onboarded(kit).finish().output == {"state": "unconfirmed"}
    refused = onboarded(kit).call_back("confirmed", 1).reject("grant", by="bob")
    assert refused.output == {"state": "refused", "by": "bob"}
    late = onboarded(kit).call_back("confirmed", 1).advance("2d")
    assert late.output == {"state": "refused", "by": None}


def test_a_callback_counts_once_and_before_its_step_is_reached(kit: FlowKit) -> None:
    kit.stub("mail", TimeoutError, None)
    run = onboarded(kit)
    run.call_back("confirmed", {"early": True})
    assert [entry.name for entry in run.journal] == ["mail"]
    run.advance("1h")
    assert run.entry("confirmed").output == {"early": True}
    with pytest.raises(FlowTestError, match="good for one call"):
        run.call_back("confirmed")


def test_events_start_flows_by_their_filters_and_cancel_by_theirs(kit: FlowKit) -> None:
    kit.listen(flows.onboarding)
    assert kit.send("kit/signup", {"user": "u1", "plan": "free"}) == []
    (first,) = kit.send("kit/signup", {"user": "u1", "plan": "pro"})
    (second,) = kit.send("kit/signup", {"user": "u2", "plan": "pro"})
    kit.send("kit/left", {"user": "u1"})
    assert (first.status, second.status) == ("cancelled", "waiting")


def test_what_reaches_outside_needs_a_stub(kit: FlowKit) -> None:
    with pytest.raises(NotStubbed, match=r"'rates'.*http_request.*stub\('rates', …\)"):
        kit.start(flows.outside)
    kit.stub("rates", {"status": 200, "body": 1.5})
    with pytest.raises(NotStubbed, match=r"kit-nowhere.*stub\('settle', …\)"):
        kit.start(flows.outside)
    kit.stub("settle", {"done": True})
    assert kit.start(flows.outside).output == {"rate": 1.5, "settled": {"done": True}}
    assert kit.calls("rates")[-1].config.url == "https://rates.example/today"


def test_code_that_asks_for_other_steps_each_time_is_found(kit: FlowKit) -> None:
    with pytest.raises(Nondeterminism, match="does not ask for the step 'second-"):
        kit.start(flows.random_order)


def test_code_that_returns_something_else_each_time_is_found(kit: FlowKit) -> None:
    with pytest.raises(Nondeterminism, match=r"step\.random\(\)"):
        kit.start(flows.random_output)


def test_children_run_in_the_kit_and_their_failures_are_the_parents(kit: FlowKit) -> None:
    kit.listen(flows.follow_up)
    run = kit.start(flows.parent, {"value": 7})
    assert run.waiting_for == ["child: a run"]
    assert run.advance("1h").output == 7
    assert [event.data for event in kit.sent] == [{"sum": 3}]
    caught = kit.start(flows.parent, {"value": "bad", "caught": True}).finish()
    assert caught.output == {"caught": "ChildFailed"}
    failed = kit.start(flows.parent, {"value": "bad"}).finish()
    assert failed.status == "failed"
    assert "ChildFailed" in failed.error["message"]
    (heard,) = kit.runs_of(flows.follow_up)
    assert heard.output == {"flow": "kit-parent", "error": "StepFailed"}


def test_a_cancelled_run_takes_its_child_along(kit: FlowKit) -> None:
    run = kit.start(flows.parent, {"value": 7})
    run.cancel("enough")
    assert [each.status for each in kit.runs] == ["cancelled", "cancelled"]
    assert run.cancel_reason == "enough"


def test_a_schedule_a_log_a_secret_and_a_patch(kit: FlowKit) -> None:
    kit.secrets["API_KEY"] = "abcdef"
    run = kit.tick(flows.nightly)
    assert run.output is True
    assert run.progress == {"percent": 50.0, "message": "half"}
    assert [line["message"] for line in run.logs] == ["begins cron='0 3 * * *'", "goes on"]
    assert run.entry("key").output == 6
    kit.secrets.clear()
    refused = kit.tick(flows.nightly)
    assert "manage.py secret set API_KEY" in refused.error["message"]


def test_what_can_not_be_says_what_to_do(kit: FlowKit) -> None:
    run = onboarded(kit)
    with pytest.raises(FlowTestError, match="there are 'mail', 'confirmed'"):
        run.approve("grant")
    with pytest.raises(FlowTestError, match="does not wait for a decision"):
        run.approve("mail")
    with pytest.raises(FlowTestError, match="time does not go back"):
        kit.advance_to(NEW_YEAR - dt.timedelta(days=1))
    with pytest.raises(FlowTestError, match="has no zone"):
        kit.advance_to(dt.datetime(2030, 2, 1))  # noqa: DTZ001
    with pytest.raises(FlowTestError, match=r"waiting \(confirmed: its callback"):
        run.output  # noqa: B018
    with pytest.raises(FlowTestError, match="does not end by itself within 1h"):
        run.finish(within="1h")
    with pytest.raises(FlowTestError, match="is no flow"):
        kit.start(flows.send_mail)
    with pytest.raises(FlowTestError, match="has no schedule"):
        kit.tick(flows.parent)
    with pytest.raises(FlowTestError, match="the step has no stub"):
        kit.unstub("nothing")
    with pytest.raises(FlowTestError, match="give what the step returns"):
        kit.stub("mail")
    with pytest.raises(ValueError, match="later"):
        kit.advance("later")


def test_a_journal_that_is_not_as_expected_is_shown_beside_what_was(kit: FlowKit) -> None:
    run = onboarded(kit)
    run.assert_journal(["mail", ("confirmed", "waiting")])
    with pytest.raises(FlowTestError) as shown:
        run.assert_journal(["mail", ("confirmed", "completed", 1), "grant"])
    assert "! 2. confirmed waiting   expected ('confirmed', 'completed', 1)" in str(shown.value)
    assert "! 3. nothing   expected grant" in str(shown.value)


def test_an_assertion_in_a_stub_is_the_tests_own(kit: FlowKit) -> None:
    def check(user: str, *, link: str) -> None:
        assert user == "somebody else"

    kit.stub("mail", check)
    with pytest.raises(FlowTestError, match="in a stub"):
        onboarded(kit)


async def run_within_a_loop(kit: FlowKit) -> None:
    kit.start(flows.parent, {"value": 1})


def test_an_async_test_is_told_what_to_do(kit: FlowKit) -> None:
    import asyncio

    with pytest.raises(FlowTestError, match="asyncio.to_thread"):
        asyncio.run(run_within_a_loop(kit))


def test_a_run_of_a_kit_is_replayed_from_its_export(kit: FlowKit, tmp_path: Path) -> None:
    run = onboarded(kit).call_back("confirmed", 1)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run.export()))
    verdict = kit.replay(flows.onboarding, path)
    assert verdict.fits, verdict.sentence
    changed = run.export()
    changed["steps"][0]["key"] = "letter"
    verdict = kit.replay(flows.onboarding, changed)
    assert not verdict
    assert "Step 1 was 'letter', the code now asks for 'mail'" in verdict.sentence
    changed = run.export()
    changed["steps"][1]["type"] = "delay"
    assert "was a delay, the code asks for a wait_for_callback now" in kit.replay(flows.onboarding, changed).sentence


def test_what_is_no_journal_is_refused(kit: FlowKit, tmp_path: Path) -> None:
    run = onboarded(kit)
    with pytest.raises(FlowTestError, match="of the flow 'kit-onboarding', not of 'kit-parent'"):
        kit.replay(flows.parent, run.export())
    with pytest.raises(InvalidInput, match="export-journal"):
        kit.replay(flows.parent, {"flow": "kit-parent"})
    with pytest.raises(InvalidInput, match="format 9"):
        kit.replay(flows.onboarding, {**run.export(), "format": 9})
    with pytest.raises(FlowTestError, match="export-journal RUN >"):
        kit.replay(flows.parent, tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FlowTestError, match="is no JSON"):
        kit.replay(flows.parent, tmp_path / "bad.json")


def test_what_one_kit_does_another_does_too() -> None:
    """Ids, random numbers and times of a run depend on the test alone."""
    both = [FlowKit(at=NEW_YEAR) for _ in range(2)]
    exports = []
    for kit in both:
        kit.stub("mail", None)
        run = onboarded(kit)
        exports.append({name: value for name, value in run.export().items() if name != "steps"})
    assert exports[0] == exports[1]
