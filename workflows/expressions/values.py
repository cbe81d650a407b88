"""The values of CEL and its operators. JSON comes as it is; nothing is converted on the way in.

Whole numbers are `int`, or `uint` (syntax.Unsigned); numbers of JSON beyond 64 bits keep their value, can be compared
and passed on, and refuse arithmetic. Every function whose cost grows with its operands spends from the budget first.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from workflows.expressions.nodes import INT_MAX, INT_MIN, UINT_MAX, Unsigned

MAX_TEXT = 4 * 1024 * 1024
MAX_ITEMS = 1_000_000
MAX_RESULT = 32 * 1024 * 1024
CHARACTERS_PER_UNIT = 256
_ITEMS_PER_UNIT = 8
COMPARED_PER_UNIT = 4096


class CelError(Exception):
    """An operation is not defined for its operands, or fails for them."""


class NoSuchField(Exception):
    """A field or key is not there."""


class BudgetSpent(Exception):
    """The evaluation costs more than it may."""


class Budget:
    """What one evaluation, or all of a template's, may still cost.

    `left`: steps of about a third of a microsecond. `built`: characters that operations make. `given`: bytes of memory
    that the results take.
    """

    __slots__ = ("built", "given", "left")

    def __init__(self, units: int) -> None:
        self.left = units
        self.built = 4 * MAX_TEXT
        self.given = MAX_RESULT

    def spend(self, units: int) -> None:
        """Raises BudgetSpent."""
        self.left -= units
        if self.left < 0:
            raise BudgetSpent("it takes too many steps; iterate over less, or compute it in a script")

    def give(self, size: int) -> None:
        """Count a part of a result. Raises BudgetSpent."""
        self.given -= size
        if self.given < 0:
            raise BudgetSpent(f"it gives values of more than {MAX_RESULT // 1024 // 1024} MiB")

    def build(self, size: int) -> None:
        """Count what an operation makes. Raises BudgetSpent."""
        self.built -= size
        if self.built < 0:
            raise BudgetSpent("it builds too much; the values that it makes may have 16 million characters in all")
        self.spend(size // CHARACTERS_PER_UNIT)


class TypeName(str):
    """A type as a value: what `type(x)` gives."""


_TYPE_NAMES: dict[type, str] = {
    type(None): "null_type", bool: "bool", int: "int", Unsigned: "uint", float: "double", str: "string",
    bytes: "bytes", list: "list", tuple: "list", dict: "map", dt.datetime: "google.protobuf.Timestamp",
    dt.timedelta: "google.protobuf.Duration", TypeName: "type",
}  # fmt: skip
TYPES = {name: TypeName(name) for name in ("null_type", "bool", "int", "uint", "double", "string", "bytes", "list",
                                           "map", "type")}  # fmt: skip


def type_name(value: Any) -> str:
    """The name of a value's type."""
    found = _TYPE_NAMES.get(type(value))
    if found is None:
        found = "map" if isinstance(value, Mapping) else type(value).__name__
    return found


def undefined(name: str, *values: Any) -> CelError:
    if len(values) > 1:
        what = f" {name} ".join(type_name(value) for value in values)
    else:
        what = f"{name}({type_name(values[0])})" if values else f"{name}()"
    return CelError(
        f"{what} is not defined. CEL does not coerce between types: convert with int(x), uint(x), double(x) or"
        " string(x)"
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- operators ------------------------------------------------------------------------------------------------


def equals(left: Any, right: Any, budget: Budget) -> bool:
    """CEL's equality: numbers by value whatever their type, anything else only with its own type."""
    kind, other = type(left), type(right)
    if kind is str and other is str:
        spend_comparison(left, right, budget)
        return bool(left == right)
    if kind is bool or other is bool:
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            return False
        budget.spend(len(left) // 2 + 1)
        return all(equals(a, b, budget) for a, b in zip(left, right, strict=True))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if len(left) != len(right):
            return False
        budget.spend(len(left) // 2 + 1)
        return all(key in right and equals(value, right[key], budget) for key, value in left.items())
    if kind is bytes and other is bytes:
        spend_comparison(left, right, budget)
    return kind is other and bool(left == right)


def spend_comparison(left: Any, right: Any, budget: Budget) -> None:
    """Texts of many characters are compared one by one."""
    if len(left) > COMPARED_PER_UNIT:
        budget.spend(min(len(left), len(right)) // COMPARED_PER_UNIT)


def contains(item: Any, container: Any, budget: Budget) -> bool:
    """`item in container`: an element of a list, or a key of a map."""
    if isinstance(container, Mapping):
        if not isinstance(item, str | int | float):
            raise undefined("in", item, container)
        return _key_in(container, item, budget) is not None
    if not isinstance(container, list | tuple):
        raise undefined("in", item, container)
    budget.spend(len(container) // _ITEMS_PER_UNIT)
    if type(item) is str:
        budget.spend(len(container) * len(item) // COMPARED_PER_UNIT)
        return item in container
    budget.spend(len(container) // 2)
    return any(equals(item, other, budget) for other in container)


def _relation(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Budget], bool]:
    def holds(left: Any, right: Any, budget: Budget) -> bool:
        comparable = (is_number(left) and is_number(right)) or (
            type(left) is type(right) and isinstance(left, str | bool | bytes | dt.datetime | dt.timedelta)
        )
        if not comparable:
            raise undefined(name, left, right)
        if isinstance(left, str | bytes):
            spend_comparison(left, right, budget)
        return compare(left, right)

    return holds


def within_64_bits(value: int, like: Any) -> int:
    is_unsigned = type(like) is Unsigned
    low, high = (0, UINT_MAX) if is_unsigned else (INT_MIN, INT_MAX)
    if not low <= value <= high:
        raise CelError("the whole number goes beyond 64 bits (overflow)")
    return Unsigned(value) if is_unsigned else value


def _moved(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except OverflowError:
        raise CelError("the time is out of range") from None


def add(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is str or kind is bytes:
            budget.build(len(left) + len(right))
            if len(left) + len(right) > MAX_TEXT:
                raise BudgetSpent(f"it makes a text of more than {MAX_TEXT:,} characters")
            return left + right
        if kind is float:
            return left + right
        if kind is int or kind is Unsigned:
            return within_64_bits(int(left) + int(right), left)
        if kind is dt.timedelta:
            return _moved(lambda: left + right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget.build(8 * (len(left) + len(right)))
        if len(left) + len(right) > MAX_ITEMS:
            raise BudgetSpent(f"it makes a list of more than {MAX_ITEMS:,} items")
        return [*left, *right]
    if {kind, type(right)} == {dt.datetime, dt.timedelta}:
        return _moved(lambda: left + right)
    raise undefined("+", left, right)


def subtract(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            return left - right
        if kind is int or kind is Unsigned:
            return within_64_bits(int(left) - int(right), left)
        if kind is dt.datetime or kind is dt.timedelta:
            return _moved(lambda: left - right)
    if kind is dt.datetime and type(right) is dt.timedelta:
        return _moved(lambda: left - right)
    raise undefined("-", left, right)


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            return left * right
        if kind is int or kind is Unsigned:
            return within_64_bits(int(left) * int(right), left)
    raise undefined("*", left, right)


def divide(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            if right == 0.0:
                is_nan = left == 0.0 or math.isnan(left)
                return math.nan if is_nan else math.copysign(math.inf, left) * math.copysign(1, right)
            return left / right
        if kind is int or kind is Unsigned:
            if right == 0:
                raise CelError("division by zero")
            quotient = abs(int(left)) // abs(int(right))
            return within_64_bits(quotient if (left < 0) == (right < 0) else -quotient, left)
    raise undefined("/", left, right)


def modulo(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right) and (kind is int or kind is Unsigned):
        if right == 0:
            raise CelError("modulo by zero")
        rest = abs(int(left)) % abs(int(right))
        return within_64_bits(rest if left >= 0 else -rest, left)
    raise undefined("%", left, right)


def negate(value: Any) -> Any:
    if type(value) is float:
        return -value
    if type(value) is int:
        return within_64_bits(-value, value)
    raise undefined("-", value)


OPERATORS: Mapping[str, Callable[[Any, Any, Budget], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "==": equals,
    "!=": lambda left, right, budget: not equals(left, right, budget),
    "in": contains,
    "<": _relation("<", operator.lt),
    "<=": _relation("<=", operator.le),
    ">": _relation(">", operator.gt),
    ">=": _relation(">=", operator.ge),
}


# --- reading ----------------------------------------------------------------------------------------------------


def field_of(value: Any, name: str) -> Any:
    """`value.name`. Raises NoSuchField."""
    try:
        return value[name]
    except KeyError:
        raise NoSuchField(name) from None
    except (TypeError, IndexError):
        raise CelError(f"{type_name(value)} has no fields, so no {name!r}") from None


def item_of(value: Any, key: Any, budget: Budget) -> Any:
    """`value[key]`. Raises NoSuchField or CelError."""
    if isinstance(value, list | tuple):
        if not is_number(key):
            raise CelError(f"the index of a list is a whole number, not {type_name(key)}")
        if not 0 <= key < len(value) or key != int(key):
            raise CelError(f"index out of bounds: {key} of {len(value)}")
        return value[int(key)]
    if not isinstance(value, Mapping):
        raise CelError(f"{type_name(value)} has no items")
    if not isinstance(key, str | int | float):
        raise CelError(f"a key of a map is a text, a whole number or a boolean, not {type_name(key)}")
    found = _key_in(value, key, budget)
    if found is None:
        raise NoSuchField(str(key))
    return value[found]


def _key_in(value: Mapping[Any, Any], key: Any, budget: Budget) -> Any:
    """The key of the map that equals this one; None where there is none. `true` is no 1."""
    if key not in value:
        return None
    if type(key) is str:
        return key
    budget.spend(len(value) // _ITEMS_PER_UNIT)
    return next((own for own in value if own == key and isinstance(own, bool) is isinstance(key, bool)), None)
