"""Everything that is wrong with a definition is said at once, with the fields that are valid at the place."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.definitions.validate import DefinitionProblems, parse

DOCUMENT: dict[str, Any] = {
    "flow": "a b",
    "stepz": [],
    "on": [{"evnt": "x", "event": "a/b", "if": "event.data.total >"}, {"cron": "61 * * * *", "timezone": "Europe"}],
    "concurrency": {"limit": 0, "kee": 1},
    "steps": [
        {"id": "x", "type": "noop", "need": [], "retry": {"attempt": 3, "categories": {"transient": {"attemptz": 1}}}},
        {"id": "y", "type": "nooop", "if": "steps['zzz'].output", "throttling": {"rate": {"limit": 1, "perod": "1s", "period": "1s"}}},
        {"id": "z", "type": "http_request", "config": {"urll": "x"}, "nope": {"a": 1}},
        {"id": "w", "type": "noop", "if": "'see steps[\\'nowhere\\'] there' == steps.gone.output"},
    ],
}  # fmt: skip


def problems(document: Any) -> dict[str, str]:
    with pytest.raises(DefinitionProblems) as raised:
        parse(document)
    return {problem.path: problem.reason for problem in raised.value.problems}


def test_one_mistake_hides_no_other() -> None:
    found = problems(DOCUMENT)
    expected = {
        "flow": "should match",
        "stepz": "did you mean 'steps'",
        "on[0].evnt": "did you mean 'event'",
        "on[0].if": "column",
        "on[1].cron": "no cron schedule",
        "on[1].timezone": "unknown time zone 'Europe'",
        "concurrency[0].limit": "greater than or equal to 1",
        "concurrency[0].kee": "did you mean 'key'",
        "steps[0].need": "did you mean 'needs'",
        "steps[0].retry.attempt": "did you mean 'attempts'",
        "steps[0].retry.categories.transient.attemptz": "did you mean 'attempts'",
        "steps[1].throttling.rate.perod": "did you mean 'period'",
        "steps[1].type": "unknown type 'nooop'; did you mean 'noop'",
        "steps[1].if": "unknown step 'zzz'",
        "steps[2].nope": "known are config, critical",
        "steps[2].config.urll": "did you mean 'url'",
        "steps[2].config.url": "Field required",
        "steps[3].if": "unknown step 'gone'",
    }
    assert {path for path, says in expected.items() if says not in found.get(path, "")} == set()
    assert set(found) == set(expected)


@pytest.mark.parametrize(
    ("document", "path", "names"),
    [
        ({"flow": "f", "steps": [{"id": "a", "type": "noop"}], "qqq": 1}, "qqq", {"flow", "steps", "on", "output"}),
        ({"flow": "f", "on": {"event": "x", "qqq": 1}, "steps": [{"id": "a", "type": "noop"}]}, "on[0].qqq", {"event", "cron", "if"}),
        ({"flow": "f", "steps": [{"id": "a", "type": "noop", "retry": {"qqq": 1}}]}, "steps[0].retry.qqq", {"attempts", "delay"}),
        ({"flow": "f", "idempotency": {"key": "event.id", "qqq": 1}, "steps": [{"id": "a", "type": "noop"}]},
         "idempotency.qqq", {"key", "window", "force"}),
    ],
)  # fmt: skip
def test_the_fields_of_the_place_are_named_and_no_others(document: Any, path: str, names: set[str]) -> None:
    reason = problems(document)[path]
    listed = set(reason.removeprefix("unknown field; known are ").split(", "))
    assert names <= listed
    assert len(listed) < 30
    assert "perod" not in reason


@pytest.mark.parametrize("text", ["'see steps[\\'zzz\\'] there' == event.name", "\"steps.zzz\" in {'steps.zzz': 1}"])
def test_a_text_about_steps_reads_none(text: str) -> None:
    assert parse({"flow": "f", "steps": [{"id": "a", "type": "noop", "if": text}]}).steps[0].condition == text


@pytest.mark.parametrize(
    "document",
    [{}, {"flow": "f"}, {"flow": "f", "steps": []}, {"flow": "f", "steps": None}, {"flow": "f", "steps": [1, None, [], "x"]},
     {"flow": "f", "steps": {"a": 1}}, {"flow": "f", "on": 5, "steps": [{}]}, [], "x", None, 5,
     {"flow": "f", "steps": [{"id": "a", "type": "map", "steps": [{"id": 5}]}]}],
)  # fmt: skip
def test_no_shape_is_a_traceback(document: Any) -> None:
    assert problems(document)


@pytest.mark.parametrize(
    ("given", "path", "reason"),
    [
        ({"tags": ["no tag"]}, "tags[0]", "is no tag; a tag has 1 to 64 letters"),
        ({"tags": ["fine", ""]}, "tags[1]", "is no tag"),
        ({"tags": ["$${ fine }"]}, "tags[0]", "is no tag"),
        ({"tags": ["${ steps.a.output }"]}, "tags[0]", "steps"),
        ({"tags": ["${ secrets.KEY }"]}, "tags[0]", "secrets"),
        ({"tags": ["${ input. }"]}, "tags[0]", "input."),
        ({"tags": [f"t{n}" for n in range(21)]}, "tags", "20"),
        (
            {"tags": ["x:${ input.x }"], "batch": {"max_size": 10, "timeout": "1s"}},
            "tags[0]",
            "a run of a batch has many events",
        ),
    ],
)
def test_a_wrong_tag_of_a_flow_is_a_problem_of_its_definition(given: Any, path: str, reason: str) -> None:
    found = problems({"flow": "f", "steps": [{"id": "a", "type": "noop"}], **given})
    assert reason in found[path]


def test_tags_are_a_list_or_one() -> None:
    steps = [{"id": "a", "type": "noop"}]
    assert parse({"flow": "f", "steps": steps, "tags": "nightly"}).tags == ("nightly",)
    assert parse({"flow": "f", "steps": steps, "tags": ["a", "${ event.name }"]}).tags == ("a", "${ event.name }")
    batch = {"max_size": 10, "timeout": "1s"}
    assert parse({"flow": "f", "steps": steps, "tags": ["a"], "batch": batch}).tags == ("a",)
