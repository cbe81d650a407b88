"""The form of sealed payloads: what goes in comes out, what only looks sealed stays what it is, lost keys are named."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import this_process
from workflows.errors import EncryptionKeyMissing
from workflows.models import Event
from workflows.payload import dump
from workflows.sealing import envelope, shapes
from workflows.sealing.envelope import Keys

ORG = uuid.UUID(int=7)
LOOKS = [
    {"$enc": "v1:00000000:AAAA"}, {"a": {"$enc": "v1:00000000:AAAA"}}, "$enc{v1:00000000:AAAA}", {"$enc": 1},
    ["$enc{v1:00000000:AAAA}", {"message": "$enc{v1:00000000:AAAA}"}],
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.sampled_from(LOOKS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.just("$enc"), inner, max_size=4),
    max_leaves=12,
)
SHAPES: dict[str, Any] = {
    "whole": shapes.whole,
    "run_input": shapes.run_input,
    "error": shapes.error,
    "logs": shapes.logs,
    "kept_logs": shapes.kept_logs,
    "progress": shapes.progress,
    "wait_options": shapes.wait_options,
    "task_end": shapes.task_end,
    "event": lambda value: shapes.output(value, "wait_for_event"),
    "branch": lambda value: shapes.output(value, "conditional"),
    "item": lambda value: shapes.item(value, is_part=False, owner=ORG),
    "part": lambda value: shapes.item(value, is_part=True, owner=ORG),
}


def have(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on this process has these encryption keys, the newest first."""
    monkeypatch.setattr(envelope, "encryption_keys", lambda: names)
    this_process.forget(Keys)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    have(monkeypatch, "first")
    yield
    this_process.forget(Keys)


@pytest.mark.parametrize("name", SHAPES)
@given(value=VALUES)
def test_what_is_sealed_comes_out_as_it_went_in(name: str, value: Any) -> None:
    stored = json.dumps(SHAPES[name](value))
    assert envelope.loads(stored) == value


PAYLOADS: dict[str, Any] = {
    "kept_logs": {"try": 1, "lines": [{"level": "info", "message": "SECRET"}], "more": "SECRET"},
    "logs": [{"at": "2026-11-26T10:00:00Z", "level": "info", "message": "SECRET"}],
    "progress": {"percent": 5, "message": "SECRET"},
    "wait_options": {"title": "SECRET", "message": "SECRET", "details": {"a": ["SECRET"]}, "on_timeout": "fail"},
    "task_end": {
        "state": "FAILURE",
        "error": {"name": "E", "message": "SECRET", "traceback": "SECRET"},
        "result": "SECRET",
    },
    "error": {"category": "business", "name": "E", "message": "SECRET", "traceback": "SECRET", "said": {"a": "SECRET"}},
    "run_input": {"events": [{"data": "SECRET"}, "SECRET"]},
    "part": ["SECRET", {"a": "SECRET"}],
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("value", ["SECRET", ["SECRET"], {"id": "1", "data": "SECRET", "n": ["SECRET"]}])
def test_nothing_of_a_payload_stands_in_what_is_stored(name: str, value: Any) -> None:
    stored = json.dumps(SHAPES[name](PAYLOADS.get(name, value)))
    assert "SECRET" not in stored


@given(text=st.text(st.characters(exclude_characters="\0")))
def test_a_text_comes_out_as_it_went_in_and_so_does_one_around_it(text: str) -> None:
    stored = envelope.seal_text(text)
    assert envelope.open_text(stored) == text
    assert envelope.open_text(f"Error: {stored}.") == f"Error: {text}."


def test_equal_items_are_stored_alike_within_an_organization_only() -> None:
    first, again = (shapes.item({"id": 1}, is_part=False, owner=ORG) for _ in range(2))
    assert first == again
    assert first != shapes.item({"id": 1}, is_part=False, owner=uuid.UUID(int=8))
    assert shapes.whole({"id": 1}) != shapes.whole({"id": 1})
    assert shapes.item([1, 2], is_part=True, owner=ORG)[0] == shapes.item([1], is_part=True, owner=ORG)[0]


def test_a_sealed_value_within_a_payload_is_not_opened() -> None:
    """A program that sends what it has seen of another tenant's database gets that back, and no more."""
    of_another = envelope.seal_value({"card": "4111"})
    assert envelope.loads(envelope.seal_json(json.dumps({"a": of_another}))) == {"a": of_another}
    text = envelope.seal_text("4111")
    assert envelope.loads(envelope.seal_json(json.dumps({"message": text}))) == {"message": text}
    assert envelope.open_text(envelope.seal_text(text)) == text
    for around in ({"message": envelope.seal_value(text)}, {"$enc": envelope.seal_value(of_another["$enc"])}):
        (name,) = around
        opened = envelope.loads(json.dumps({"outer": [around]}))
        assert opened == {"outer": [{name: text if name == "message" else of_another["$enc"]}]}


def test_everything_is_read_with_any_key_and_written_with_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    old = envelope.seal_json("1")
    have(monkeypatch, "second", "first")
    assert envelope.loads(old) == 1
    assert envelope.key_names(old) != envelope.key_names(envelope.seal_json("1"))


def test_a_lost_key_is_named_and_the_value_can_be_shown_but_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    old, text = envelope.seal_json('{"total": 3}'), envelope.seal_text("no such card")
    (name,) = envelope.key_names(old)
    have(monkeypatch, "second")
    value = envelope.loads(old)
    assert name in json.dumps(value)
    assert "HEADRACE_ENCRYPTION_KEYS_OLD" in value["$enc"]
    for use in (lambda: value["total"], lambda: "total" in value, lambda: value.get("total")):
        with pytest.raises(EncryptionKeyMissing, match=name):
            use()
    with pytest.raises(EncryptionKeyMissing, match=name):
        envelope.check_open({"steps": [value]})
    with pytest.raises(EncryptionKeyMissing, match=name):
        dump({**value})
    with pytest.raises(EncryptionKeyMissing, match=name):
        dump({"said": envelope.loads(json.dumps({"message": text}))["message"]})
    with pytest.raises(EncryptionKeyMissing, match=name):
        Event._meta.get_field("data").pre_save(Event(data=envelope.loads(json.dumps({"message": text}))), add=False)
    assert name in envelope.open_text(text)


def test_a_text_of_which_a_part_is_under_a_lost_key_is_refused_where_it_would_be_stored_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = f"Error: {envelope.seal_text('no such card')}"
    (name,) = envelope.key_names(text)
    have(monkeypatch, "second")
    opened = envelope.open_text(text)
    assert opened.startswith("Error: This is encrypted")
    with pytest.raises(EncryptionKeyMissing, match=name):
        Event._meta.get_field("rejected").pre_save(Event(rejected=opened), add=False)


def test_the_keys_and_the_form_of_stored_text_are_those_of_what_is_sealed_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A payload may say `v1:…`, too."""
    first = {"said": "v1:00000000:AAAA", "of": envelope.seal_value(1), "text": envelope.seal_text("a")}
    (name,) = envelope.key_names(json.dumps(first))
    assert name != "00000000"
    again = {**first, "of": envelope.seal_value(2), "text": envelope.seal_text("b")}
    assert envelope.form(json.dumps(first)) == envelope.form(json.dumps(again))
    have(monkeypatch, "second")
    newer = {**first, "of": envelope.seal_value(1), "text": envelope.seal_text("a")}
    assert envelope.form(json.dumps(first)) != envelope.form(json.dumps(newer))
    assert envelope.form(json.dumps(first), with_keys=False) == envelope.form(json.dumps(newer), with_keys=False)
    assert envelope.form(json.dumps(first)) != envelope.form(json.dumps({**first, "said": "v1:00000000:BBBB"}))


def test_what_was_changed_in_the_database_is_not_opened() -> None:
    stored = envelope.seal_json('"a"')
    changed = stored[:-10] + ("A" if stored[-10] != "A" else "B") + stored[-9:]
    with pytest.raises(EncryptionKeyMissing, match="was changed in the database since"):
        envelope.check_open(envelope.loads(changed))


@pytest.mark.parametrize("size", [2, 15, 16, 17, 1_000, 99_999])
def test_the_size_of_payloads_is_known_from_that_of_what_is_stored(size: int) -> None:
    text = '"' + "x" * (size - 2) + '"'
    stored = [json.loads(envelope.seal_json(text))["$enc"] for _ in range(7)]
    found = envelope.payload_bytes(100, len(stored), sum(map(len, stored)))
    assert abs(found - 100 - 7 * size) <= 7 * 10, "half a block of each, and what base64 fills up"


def test_the_keys_of_payloads_open_no_secret() -> None:
    from workflows.models.encryption import encrypt

    token = encrypt("hunter22").decode()
    (name,) = envelope.key_names(envelope.seal_json("1"))
    with pytest.raises(EncryptionKeyMissing):
        envelope.check_open(envelope.loads(json.dumps({"$enc": f"v1:{name}:{token}"})))
