"""At which places of a payload a rule holds."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.edge.redaction import Rules
from workflows.presenters import redaction
from workflows.steps.masking import Secrets


@pytest.mark.parametrize(
    ("rule", "value", "shown"),
    [
        ("password", {"a": {"PassWord": "x"}}, {"a": {"PassWord": "***"}}),
        ("*.password", {"password": "x", "a": {"password": {"b": 1}}}, {"password": "***", "a": {"password": "***"}}),
        ("card.number", {"number": 1, "card": {"number": 1}}, {"number": 1, "card": {"number": "***"}}),
        ("card.number", {"x": [{"card": [{"number": 1}]}]}, {"x": [{"card": [{"number": "***"}]}]}),
        ("headers.*.value", {"headers": {"a": {"value": 1}}}, {"headers": {"a": {"value": "***"}}}),
        ("headers.*.value", {"headers": [{"value": 1}]}, {"headers": [{"value": "***"}]}),
        ("card.*", {"card": {"a": 1, "b": None}}, {"card": {"a": "***", "b": None}}),
        ("$.name", {"name": "x", "a": {"name": "x"}}, {"name": "***", "a": {"name": "x"}}),
        ("a.b", {"b": 1}, {"b": 1}),
        ("password", "password", "password"),
    ],
)
def test_a_rule_holds_wherever_a_place_ends_with_its_names(rule: str, value: Any, shown: Any) -> None:
    assert Rules([rule]).masked(value) == shown


def test_the_data_of_an_event_is_known_by_all_its_names() -> None:
    rules = Rules(["data.card.number"])
    for name in ("data", "input", "eventData", "triggerData"):
        assert rules.masked({name: {"card": {"number": 1}}}) == {name: {"card": {"number": "***"}}}
    assert rules.masked({"output": {"card": {"number": 1}}}) == {"output": {"card": {"number": 1}}}


def test_values_are_those_that_can_be_told_from_other_text() -> None:
    value = {"card": {"number": 4111111111111111, "pin": "123", "deep": {"a": ["long-value"]}}, "other": "kept-value"}
    assert Rules(["card"]).values(value) == ["4111111111111111", "long-value"]


def test_the_tags_of_a_page_stay_as_they_are() -> None:
    secrets = Secrets(["button", "script"])
    page = '<button class="button" title="a button"><script>button()</script>the button &amp; script</button>'
    assert redaction._of_html(page, secrets.mask) == (
        '<button class="button" title="a ***"><script>button()</script>the *** &amp; ***</button>'
    )
