"""Python types as JSON Schemas, and values as instances of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from workflows.definitions.json_schema import SchemaRefused, compile_schema
from workflows.definitions.typed import json_schema_of, plain, typed
from workflows.errors import InvalidInput, InvalidOutput


class Line(BaseModel):
    sku: Annotated[str, Field(pattern="^[a-z]+$")]
    count: int = Field(1, ge=1)


class Order(BaseModel):
    id: str = Field(alias="orderId")
    lines: list[Line] = Field(min_length=1)
    due: dt.datetime | None = None
    total: Decimal = Decimal(0)
    kind: Literal["new", "again"] = "new"


class Node(BaseModel):
    inner: Node | None = None


class Place(TypedDict):
    city: str


@dataclass
class Point:
    x: int
    y: int = 0


def problems(type_: Any, value: Any) -> list[str]:
    return [problem.at("input") for problem in compile_schema(json_schema_of(type_)).problems(value)]


def test_a_schema_and_its_type_agree() -> None:
    good = {"orderId": "o", "lines": [{"sku": "a", "count": 2}], "due": "2026-11-26T07:00:00Z", "total": "1.50"}
    assert problems(Order, good) == []
    order = typed(Order, good)
    assert (order.total, order.lines[0].count, order.due) == (
        Decimal("1.50"),
        2,
        dt.datetime(2026, 11, 26, 7, tzinfo=dt.UTC),
    )
    assert plain(order) == {**good, "kind": "new"}
    bad = {"orderId": 5, "lines": [{"sku": "A", "count": 0}], "kind": "old"}
    assert problems(Order, bad) == ["input.kind", "input.lines.0.count", "input.lines.0.sku", "input.orderId"]
    with pytest.raises(InvalidInput) as refused:
        typed(Order, bad)
    for path in ("input.kind", "input.lines.0.count", "input.lines.0.sku", "input.orderId"):
        assert f"{path}: " in str(refused.value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [(Place, {"city": "Ulm"}), (Point, {"x": 1, "y": 2}), (list[Point], [{"x": 1, "y": 0}]), (int | None, None)],
)
def test_other_types_do_too(type_: Any, value: Any) -> None:
    assert problems(type_, value) == []
    assert plain(typed(type_, value)) == value


def test_a_type_within_itself_resolves_within_itself() -> None:
    assert problems(Node, {"inner": {"inner": None}}) == []
    assert problems(Node, {"inner": {"inner": 5}}) != []


def test_what_has_no_schema_says_so() -> None:
    class Odd(BaseModel):
        what: type

    with pytest.raises(SchemaRefused, match="Odd: Cannot generate a JsonSchema"):
        json_schema_of(Odd)
    with pytest.raises(SchemaRefused, match="Plain: "):
        json_schema_of(type("Plain", (), {}))


def test_what_is_no_json_says_so() -> None:
    with pytest.raises(InvalidOutput, match="The output is no JSON"):
        plain(object(), what="The output")


def test_many_problems_are_counted() -> None:
    with pytest.raises(InvalidInput, match="; and 30 more$"):
        typed(list[int], ["x"] * 50)  # type: ignore[arg-type]


def test_input_and_output_may_differ() -> None:
    class Both(BaseModel):
        amount: Decimal = Decimal(0)

    schemas = [json_schema_of(Both), json_schema_of(Both, of="output")]
    accepts_number = [compile_schema(schema).problems({"amount": 1.5}) == [] for schema in schemas]
    assert accepts_number == [True, False]
