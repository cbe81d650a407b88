"""What a step can be told, in the test kit: deadlines by its own clock, and what is refused."""

from __future__ import annotations

from tests.support.python_flows import kit
from workflows.functions.testing import FlowKit


def test_what_is_no_deadline_and_no_list_of_events_is_refused(flow_kit: FlowKit) -> None:
    refused = flow_kit.start(kit.refused_options).output
    assert list(refused) == ["naive", "text", "none", "nameless", "both", "wide"]
    assert "with its zone" in refused["naive"]
    assert "has its own data" in refused["both"]


def test_the_kit_has_deadlines_by_its_own_clock(flow_kit: FlowKit) -> None:
    run = flow_kit.start(kit.late)
    run.advance("2h")
    assert run.output == [1, "DeadlinePassed"]


def test_no_try_follows_that_would_begin_after_the_deadline(flow_kit: FlowKit) -> None:
    error, attempts, message = flow_kit.start(kit.no_time).output
    assert (error, attempts) == ("DeadlinePassed", 1)
    assert "ValueError: invalid literal" in message


def test_the_kit_sends_several_events(flow_kit: FlowKit) -> None:
    run = flow_kit.start(kit.several)
    assert [(event.name, event.data) for event in flow_kit.sent] == [("kit/a", {"n": 1}), ("kit/b", {})]
    assert run.output == [event.facts["id"] for event in flow_kit.sent]
