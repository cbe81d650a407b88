"""Fingerprints: what differs from failure to failure is left out, what tells causes apart is kept."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from dlq.failures.grouping import fingerprint, group_id, location, normalise
from workflows.errors import Category
from workflows.steps.outcome import StepError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 not found", "order 9123 not found"),
        ("order 'A-1' not found", "order 'B-22' not found"),
        (f"run {uuid.UUID(int=17 << 100)} is gone", f"run {uuid.UUID(int=99 << 90)} is gone"),
        ("no answer from 10.0.0.7:8080", "no answer from 192.168.1.12:99"),
        ("expired at 2026-11-22T10:00:00Z", "expired at 2025-01-02 03:04:05+01:00"),
        ("mail to a@example.org bounced", "mail to somebody.else@mail.example.com bounced"),
        ("checksum deadbeef01 differs", "checksum 0123456789abcdef differs"),
        ("object at 0x7f12ab", "object at 0x1"),
        ("customer cus_Nx81kd02 is blocked", "customer cus_Az92kd77 is blocked"),
        ("took 1.5e3 ms", "took 22 ms"),
        ("a\n  b", "a b"),
    ],
)
def test_messages_of_one_cause_are_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order not found", "customer not found"),
        ("api.example answered 500: x", "pay.example answered 500: x"),
        ("division by zero", "list index out of range"),
    ],
)
def test_messages_of_two_causes_are_not(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_the_location_is_the_innermost_frame_without_its_line() -> None:
    text = 'File "/srv/app/steps.py", line 12, in handle\n  File "/srv/app/pay.py", line 99, in charge\nValueError'
    assert location(text) == "pay.py:charge"
    assert location('Traceback:\n  File "step-4.py", line 3\n') == "step-4.py:<module>"
    assert location("nothing of the kind") == ""


def test_type_category_name_message_and_location_make_the_group() -> None:
    base: dict[str, Any] = {
        "category": Category.TRANSIENT,
        "name": "E",
        "message": "m 1",
        "traceback": 'File "a.py", line 1, in f',
    }
    first = fingerprint("http_request", StepError(**base))[0]
    assert fingerprint("http_request", StepError(**{**base, "message": "m 2"}))[0] == first
    assert fingerprint("http_request", StepError(**{**base, "traceback": 'File "/b/a.py", line 7, in f'}))[0] == first
    others: list[tuple[str, dict[str, Any]]] = [("noop", {}), ("http_request", {"category": Category.AUTH}), ("http_request", {"name": "F"}),
              ("http_request", {"message": "n"}), ("http_request", {"traceback": 'File "a.py", line 1, in g'})]  # fmt: skip
    prints = {fingerprint(type_, StepError(**{**base, **more}))[0] for type_, more in others}
    assert len(prints | {first}) == 6


def test_a_group_has_an_id_of_its_own_in_each_organization() -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    assert group_id(one, "f") == group_id(one, "f")
    assert len({group_id(one, "f"), group_id(two, "f"), group_id(one, "g")}) == 3
