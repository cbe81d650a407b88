"""Definitions are plain JSON: YAML 1.2 core, every deviation refused with its path, nothing read as something else."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.definitions import document
from workflows.definitions.text import yaml_text
from workflows.definitions.validate import DefinitionProblems, parse, plain_json
from workflows.errors import WorkflowsError

CORE = {
    "octal: 0123": 123, "newoctal: 0o123": 83, "zip: 01234": 1234, "sexagesimal: 12:30:45": "12:30:45", "time: 10:30": "10:30",
    "exp: 1e3": 1000.0, "expdot: 1.5e+3": 1500.0, "under: 1_000": "1_000", "hex: 0x1F": 31, "no: no": "no", "on: on": "on",
    "tilde: ~": None, "null_: Null": None, "empty:": None, "dotfloat: 1.": 1.0, "plus: +1": 1, "mac: 12:34:56": "12:34:56",
    "ver: 1.10": 1.1, "date: 2026-01-31": "2026-01-31", "at: 2026-01-31T10:00:00Z": "2026-01-31T10:00:00Z", "t: TRUE": True,
    "y: yes": "yes", "b: 0b11": "0b11", "equals: =": "=", "minus: -0": 0, "point: .5": 0.5, "quoted: '01'": "01",
    "tagless: ! 01": "01",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), CORE.items(), ids=CORE)
def test_plain_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found = next(iter(document.loads(text).values()))
    assert found == value
    assert type(found) is type(value)


REFUSED = {
    "a key twice": ("a: {b: 1, c: 2, b: 3}", r"^a\.b: is given twice"),
    "steps twice": ("flow: f\nsteps: [{id: a}]\nsteps: [{id: b}]", r"^steps: is given twice"),
    "not a number": ("a: [1, .nan]", r"^a\[1\]: \.nan is no number"),
    "infinity": ("a: -.inf", r"^a: -\.inf is no number"),
    "NUL": ('a: {b: "x\\0y"}', r"^a\.b: .*NUL"),
    "half a character": ('a: "\\ud800"', "surrogate|character"),
    "a whole number beyond 64 bits": (f"a: [{2**64}]", r"^a\[0\]: .*64 bits"),
    "a negative one": (f"a: {-(2**63) - 1}", r"^a: .*64 bits"),
    "a thousand digits": ("a: " + "9" * 1_000, r"^a: a number of more than 400 digits"),
    "a number as key": ("a: {1: 2}", r"^a: the key 1 is no text"),
    "null as key": ("? \n: 1", "the key None is no text"),
    "a list as key": ("? [1]\n: 1", "key"),
    "binary": ("a: !!binary aGk=", "line 1, column 4: the tag .*binary is not read"),
    "a set": ("a: !!set {x, y}", "the tag .*set"),
    "an object": ("a: !!python/object:os.system x", "the tag"),
    "a local tag": ("a: !thing x", "the tag"),
    "a directive": ("%YAML 1.1\n---\na: yes", "directives"),
    "two documents": ("a: 1\n---\nb: 2", "a second document"),
    "itself": ("a: &x [1, *x]", r"\*x stands within itself"),
    "an alias of nothing": ("a: *x", "undefined alias"),
    "many aliases": ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{'bcdefg'[n]}: &{'bcdefg'[n]} [{','.join(['*' + 'abcdef'[n]] * 10)}]\n" for n in range(6)), "more than 50,000"),
    "depth": ("a: " + "[" * 150 + "]" * 150, "levels deep"),
    "width": ("a: [" + "1," * 60_000 + "]", "more than 50,000 values"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_what_json_can_not_hold_is_refused_with_its_path(text: str, says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        document.loads(text)


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(DefinitionProblems) as raised:
        document.loads('a: {b: 1, b: 2}\nc: .nan\nd: [{1: x}, "\\0"]')
    assert [problem.path for problem in raised.value.problems] == ["a.b", "c", "d[0]", "d[1]"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": {"type": 1, "type": 2}}', r"^a\.type: is given twice"),
        ('{"a": [NaN]}', r"^a\[0\]: NaN is no JSON"),
        (f'{{"a": {"9" * 600}}}', r"64 bits"),
        (f'{{"a": {"9" * 5_000}}}', "digits|64 bits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "\\u0000"}', "NUL"),
        ("[" * 100_000, "nested|Expecting"),
    ],
)
def test_json_is_held_to_the_same(text: str, says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        document.loads(text, json_only=True)


@pytest.mark.parametrize(
    "value",
    [{"a": dt.date(2026, 1, 31)}, {"a": dt.datetime(2026, 1, 31, tzinfo=dt.UTC)}, {"a": b"x"}, {"a": {1, 2}}, {1: 2},
     {"a": float("nan")}, {"a": object()}, {"a" * 600: 1}],
)  # fmt: skip
def test_python_values_that_are_no_json_are_refused(value: Any) -> None:
    with pytest.raises(DefinitionProblems):
        plain_json(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(DefinitionProblems, match="in itself"):
        plain_json({"a": value})


def test_merge_keys_are_understood() -> None:
    text = "base: &b {attempts: 3, delay: 1s}\none: {<<: *b, attempts: 5}\ntwo: {<<: [*b, {x: 1}], y: 2}"
    found = document.loads(text)
    assert found["one"] == {"attempts": 5, "delay": "1s"}
    assert found["two"] == {"attempts": 3, "delay": "1s", "x": 1, "y": 2}


def test_what_reads_differently_than_before_is_told() -> None:
    told = yaml_text.changed_readings("a: 0123\nb: '0123'\nc: 10:30\nd: 2026-01-31\ne: 1e3\nf: 12\ng: text\nh: 1_000")
    assert [line.split(" is ")[0] for line in told] == [
        "line 1: 0123", "line 3: 10:30", "line 4: 2026-01-31", "line 5: 1e3", "line 8: 1_000"
    ]  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda c: st.lists(c, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), c, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_what_is_plain_stays_as_it_is(value: Any) -> None:
    assert json.dumps(plain_json(value)) == json.dumps(value)
    assert json.dumps(document.loads(json.dumps(value), json_only=True)) == json.dumps(value)


@given(json_values)
def test_what_is_exported_reads_back(value: Any) -> None:
    assert json.dumps(document.loads(document.dumps({"a": value}))) == json.dumps({"a": value})


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_is_a_traceback(text: str) -> None:
    for json_only in (False, True):
        try:
            parse(document.loads(text, json_only=json_only))
        except WorkflowsError:
            continue
