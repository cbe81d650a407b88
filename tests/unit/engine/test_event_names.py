"""Which patterns an event's name fits."""

from __future__ import annotations

import pytest

from workflows.engine.events.names import patterns


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("paid", ["paid", "*"]),
        ("order/paid", ["order/paid", "order/*", "*"]),
        ("a/b/c", ["a/b/c", "a/*", "a/b/*", "*"]),
        ("headrace/run.failed", ["headrace/run.failed", "headrace/*"]),
        ("headrace", ["headrace", "*"]),
    ],
)
def test_an_event_fits_its_name_and_its_prefixes_and_no_system_event_fits_everything(
    name: str, fits: list[str]
) -> None:
    assert patterns(name) == fits
