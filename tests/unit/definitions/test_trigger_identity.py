"""Which trigger of a new version is which one of the version before: by its id, else by kind and name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from workflows.definitions import document, trigger_identity
from workflows.definitions.trigger_identity import Known, face_of, made_key
from workflows.definitions.triggers import TriggerSpec
from workflows.definitions.validate import DefinitionProblems, parse

STEPS = [{"id": "a", "type": "noop"}]
ONE = {"webhook": "github", "secret": "REPO_ONE"}
TWO = {"webhook": "github", "secret": "REPO_TWO"}
THREE = {"webhook": "github", "secret": "REPO_THREE"}
NIGHTLY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
NOON = {"cron": "0 12 * * *", "timezone": "Europe/Berlin"}
EVENING = {"cron": "0 20 * * *", "timezone": "Europe/Berlin"}
GO = {"event": "order/go"}


def specs(*entries: dict[str, Any]) -> list[TriggerSpec]:
    return [TriggerSpec.model_validate(entry) for entry in entries]


def known(*entries: dict[str, Any], off: tuple[int, ...] = (), removed: tuple[int, ...] = ()) -> list[Known]:
    """The rows that publishing these entries made."""
    rows: list[Known] = []
    for position, spec in enumerate(specs(*entries)):
        key = spec.id or made_key(face_of(spec), {row.key for row in rows})
        rows.append(
            Known(row_id=uuid4(), key=key, named=spec.id is not None, face=face_of(spec), enabled=position not in off,
                  is_removed=position in removed, place=f"row {position}")
        )  # fmt: skip
    return sorted(rows, key=lambda row: row.is_removed)


def keys(wanted: list[TriggerSpec], before: list[Known]) -> list[str | None]:
    pairing = trigger_identity.pair(wanted, before)
    assert pairing.problems == []
    return [row.key if row else None for row in pairing.known]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([ONE, TWO], [TWO, ONE], ["webhook-github-2", "webhook-github"]),
        ([ONE, TWO], [TWO], ["webhook-github-2"]),
        ([ONE, TWO], [THREE, TWO], ["webhook-github", "webhook-github-2"]),  # a secret that is renamed
        ([ONE], [ONE, TWO], ["webhook-github", None]),
        ([ONE], [{**ONE, "if": "event.data.x == 1"}], ["webhook-github"]),
        ([ONE], [{**ONE, "id": "first"}], ["webhook-github"]),  # an id that is added
        ([{**ONE, "id": "first"}], [ONE], ["first"]),
        ([{**ONE, "id": "first"}], [{**ONE, "id": "second"}], [None]),
        ([{**ONE, "id": "first"}, {**ONE, "id": "second"}], [{**TWO, "id": "second"}], ["second"]),
        ([ONE], [{**ONE, "id": "first"}, TWO], ["webhook-github", None]),
        ([GO, NIGHTLY], [NIGHTLY, GO], ["cron-Europe-Berlin", "event-order-go"]),
        ([NIGHTLY, NOON], [NOON, NIGHTLY], ["cron-Europe-Berlin-2", "cron-Europe-Berlin"]),
        ([NIGHTLY, NOON], [NIGHTLY, EVENING], ["cron-Europe-Berlin", "cron-Europe-Berlin-2"]),  # by its place
        ([NIGHTLY], [{**NIGHTLY, "timezone": "UTC"}], [None]),
        ([{**GO, "id": "x"}], [{"cron": "0 3 * * *", "id": "x"}], ["x"]),
    ],
)  # fmt: skip
def test_a_trigger_is_found_again(before: list[Any], after: list[Any], found: list[str | None]) -> None:
    assert keys(specs(*after), known(*before)) == found


def test_a_removed_trigger_is_found_when_it_comes_back() -> None:
    assert keys(specs(ONE, TWO), known(ONE, TWO, removed=(0,))) == ["webhook-github", "webhook-github-2"]
    assert keys(specs({**GO, "id": "x"}), known({**GO, "id": "x"}, removed=(0,))) == ["x"]


FILTERED = ({**GO, "if": "event.data.a"}, {**GO, "if": "event.data.b"})


@pytest.mark.parametrize(
    ("before", "off", "after"),
    [
        (FILTERED, (0,), FILTERED),  # the filter is never part of it
        (FILTERED, (0,), FILTERED[1:]),
        ((GO,), (0,), FILTERED),
        ((NIGHTLY, NOON), (1,), (EVENING,)),
        ((ONE, TWO), (), (THREE,)),  # which address is it to have?
        ((ONE,), (), (TWO, THREE)),
        (FILTERED, (0,), ({**GO, "id": "one"}, {**GO, "id": "two"})),
    ],
)
def test_nothing_is_guessed_where_it_matters(before: Any, off: tuple[int, ...], after: Any) -> None:
    rows = known(*before, off=off)
    pairing = trigger_identity.pair(specs(*after), rows)
    assert pairing.problems
    for path, reason in pairing.problems:
        assert path.startswith("on[")
        assert f"`id: {rows[0].key}`" in reason


def test_the_line_that_is_asked_for_says_which_one_it_is() -> None:
    rows = known(*FILTERED, off=(0,))
    wanted = specs({**FILTERED[1], "id": "event-order-go-2"}, {**FILTERED[0], "id": "event-order-go"})
    assert keys(wanted, rows) == ["event-order-go-2", "event-order-go"]
    assert keys(specs({**FILTERED[1], "id": "event-order-go-2"}, FILTERED[0]), rows) == [
        "event-order-go-2", "event-order-go",
    ]  # fmt: skip


def test_it_is_guessed_where_it_does_not_matter() -> None:
    assert keys(specs(*FILTERED), known(*FILTERED)) == ["event-order-go", "event-order-go-2"]
    assert keys(specs(*FILTERED, GO), known(*FILTERED)) == ["event-order-go", "event-order-go-2", None]
    assert keys(specs(GO), known(*FILTERED, off=(0, 1))) == ["event-order-go"]


@pytest.mark.parametrize(
    ("on", "path", "says"),
    [
        ([ONE, ONE], "on[1]", "add `id: webhook-github-2`"),
        ([ONE, {**ONE, "if": "event.data.x == 1"}], "on[1]", "the same secret"),
        ([{"webhook": "none"}, {"webhook": "none"}], "on[1]", "nothing tells them apart"),
        ([GO, GO], "on[1]", "add `id:"),
        ([NIGHTLY, NIGHTLY], "on[1]", "add `id:"),
        ([{**GO, "id": "x"}, {**NOON, "id": "x"}], "on[1].id", "duplicate id 'x'"),
        ([{**GO, "id": "9 x"}], "on[0].id", "pattern"),
    ],
)  # fmt: skip
def test_two_that_nothing_tells_apart_are_refused(on: Any, path: str, says: str) -> None:
    with pytest.raises(DefinitionProblems) as refused:
        parse({"flow": "f", "on": on, "steps": STEPS})
    assert [(each.path, says in each.reason) for each in refused.value.problems] == [(path, True)]


def test_two_with_ids_may_be_alike() -> None:
    spec = parse({"flow": "f", "on": [{**ONE, "id": "a"}, {**ONE, "id": "b"}], "steps": STEPS})
    assert [each.id for each in spec.on] == ["a", "b"]
    exported = document.loads(document.dumps(document.to_document(spec)))
    assert [each["id"] for each in exported["on"]] == ["a", "b"]


def test_a_made_id_is_free() -> None:
    face = face_of(specs(GO)[0])
    taken: set[str] = set()
    for _ in range(3):
        taken.add(made_key(face, taken))
    assert taken == {"event-order-go", "event-order-go-2", "event-order-go-3"}
    assert len(made_key(replace(face, name="ö" * 200), set())) <= 100
