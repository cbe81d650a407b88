"""Takes out what a process does for the encryption of payloads: for good where BENCH_NO_SEALING is 1, which is imported
beside the step type, or for a while.

Nobody encrypts in the bench. What is left of each look is a call that returns what it was given, or nothing at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.db import models
from psycopg.types.json import JsonbLoader

from workflows.engine.intake import plain_events
from workflows.engine.state import database, sealed
from workflows.models.payload_fields import PayloadField, PayloadTextField
from workflows.sealing import envelope


def _first(given: Any, *_: Any, **__: Any) -> Any:
    return given


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _no(*_: Any, **__: Any) -> bool:
    return False


def _yes(*_: Any, **__: Any) -> bool:
    return True


LOOKS: list[tuple[Any, str, Callable[..., Any]]] = [
    *((sealed, name, _first) for name in (
        "value", "run_input", "elements", "output", "maybe", "error", "logs", "shaped", "plain_text",
    )),
    (sealed, "items", lambda values, *_, **__: list(values)),
    (sealed, "is_on", _no),
    (sealed, "is_wanted", _no),
    (sealed, "is_off_for_all", _yes),
    (sealed, "look_again", _nothing),
    (envelope, "check_open", _nothing),
    (envelope, "open_text", _first),
    (plain_events, "_sealing", lambda _: _first),
    (database, "PayloadLoader", JsonbLoader),
    (PayloadField, "from_db_value", models.JSONField.from_db_value),
    (PayloadField, "pre_save", models.JSONField.pre_save),
    (PayloadField, "get_db_prep_value", models.JSONField.get_db_prep_value),
    (PayloadTextField, "from_db_value", lambda _, value, *__: value),
    (PayloadTextField, "pre_save", models.TextField.pre_save),
]  # fmt: skip
"""Where they are, and what is there instead."""


def take_out() -> list[tuple[Any, str, Any]]:
    """From here on this process neither looks whether somebody encrypts, nor whether something is encrypted. Returns
    what was where."""
    taken: list[tuple[Any, str, Any]] = []
    modules = [each for key, each in sys.modules.items() if key.partition(".")[0] in {"workflows", "dlq"}]
    for owner, name, instead in LOOKS:
        function = getattr(owner, name)
        owners = [owner] if isinstance(owner, type) else modules
        for place in owners:
            for known in [key for key, value in vars(place).items() if value is function]:
                taken.append((place, known, function))
                setattr(place, known, instead)
    return taken


@contextlib.contextmanager
def taken_out() -> Iterator[None]:
    """Without the looks while this is open."""
    taken = take_out()
    try:
        yield
    finally:
        for place, name, function in taken:
            setattr(place, name, function)


if os.environ.get("BENCH_NO_SEALING") == "1":
    take_out()
