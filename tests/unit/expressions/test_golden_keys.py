"""Keys of limits, idempotency, singleton and waits stay byte-identical to those of 0.1.0.

The table was made by 0.1.0 with its evaluator (the package common-expression-language 0.3). A key that reads otherwise
would split one limit, or one idempotency key, in two while old and new workers run side by side.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from throttling.errors import ThrottlingError
from throttling.limits import key_text
from workflows.errors import ExpressionError
from workflows.expressions import compile_expression
from workflows.expressions.equality import NO_TERM, term_of

TABLE = json.loads((Path(__file__).parents[2] / "fixtures" / "golden_keys_0_1_0.json").read_text())
FACTS: list[dict[str, Any]] = TABLE["facts"]


@pytest.mark.parametrize("row", TABLE["keys"], ids=lambda row: f"{row['facts']}-{row['source']}")
def test_a_key_reads_as_in_0_1_0(row: dict[str, Any]) -> None:
    data = FACTS[row["facts"]]
    event = {"id": "ev1", "name": "a/b", "data": data, "user": {}, "ts": 1}
    scope = {"event": event, "input": data, "org": {"id": "o", "slug": "acme"}}
    try:
        found = key_text(compile_expression(row["source"], is_key=True).evaluate(scope))
    except (ExpressionError, ThrottlingError):
        found = None
    assert found == row["key"]


@pytest.mark.parametrize("row", TABLE["terms"], ids=lambda row: f"{row['facts']}-{row['condition']}")
def test_a_term_of_a_wait_reads_as_in_0_1_0(row: dict[str, Any]) -> None:
    data = FACTS[row["facts"]]
    found = term_of(row["condition"], {"input": data, "event": {"data": data}})
    assert list(found) == row["term"] or (found == NO_TERM and row["term"] is None)
