"""The values of CEL and its functions over them. JSON comes as it is; nothing is converted on the way in.

Whole numbers are `int`, or `uint` (syntax.Unsigned); numbers of JSON beyond 64 bits keep their value, can be compared
and passed on, and refuse arithmetic. Every function whose cost grows with its operands spends from the budget first.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import re2

from workflows.expressions.syntax import INT_MAX, INT_MIN, UINT_MAX, Unsigned

MAX_TEXT = 4 * 1024 * 1024
MAX_ITEMS = 1_000_000
MAX_RESULT = 32 * 1024 * 1024
MAX_PATTERN = 1_000
_CHARACTERS_PER_UNIT = 256
_ITEMS_PER_UNIT = 8
_COMPARED_PER_UNIT = 4096
_LARGE_PROGRAM = 100
"""Instructions of a pattern, from which it may walk through all of them at each character."""
_WALKED_PER_UNIT = 128
_TOO_LARGE_UNITS = 50_000
"""What RE2 takes to see that a pattern is too large for it: up to 35 ms."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DOUBLE = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE
)


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
        self.spend(size // _CHARACTERS_PER_UNIT)


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


def _undefined(name: str, *values: Any) -> CelError:
    if len(values) > 1:
        what = f" {name} ".join(type_name(value) for value in values)
    else:
        what = f"{name}({type_name(values[0])})" if values else f"{name}()"
    return CelError(
        f"{what} is not defined. CEL does not coerce between types: convert with int(x), uint(x), double(x) or"
        " string(x)"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- operators ------------------------------------------------------------------------------------------------


def equals(left: Any, right: Any, budget: Budget) -> bool:
    """CEL's equality: numbers by value whatever their type, anything else only with its own type."""
    kind, other = type(left), type(right)
    if kind is str and other is str:
        _compare(left, right, budget)
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
        _compare(left, right, budget)
    return kind is other and bool(left == right)


def _compare(left: Any, right: Any, budget: Budget) -> None:
    """Texts of many characters are compared one by one."""
    if len(left) > _COMPARED_PER_UNIT:
        budget.spend(min(len(left), len(right)) // _COMPARED_PER_UNIT)


def contains(item: Any, container: Any, budget: Budget) -> bool:
    """`item in container`: an element of a list, or a key of a map."""
    if isinstance(container, Mapping):
        if not isinstance(item, str | int | float):
            raise _undefined("in", item, container)
        return _key_in(container, item, budget) is not None
    if not isinstance(container, list | tuple):
        raise _undefined("in", item, container)
    budget.spend(len(container) // _ITEMS_PER_UNIT)
    if type(item) is str:
        budget.spend(len(container) * len(item) // _COMPARED_PER_UNIT)
        return item in container
    budget.spend(len(container) // 2)
    return any(equals(item, other, budget) for other in container)


def _relation(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Budget], bool]:
    def holds(left: Any, right: Any, budget: Budget) -> bool:
        comparable = (_is_number(left) and _is_number(right)) or (
            type(left) is type(right) and isinstance(left, str | bool | bytes | dt.datetime | dt.timedelta)
        )
        if not comparable:
            raise _undefined(name, left, right)
        if isinstance(left, str | bytes):
            _compare(left, right, budget)
        return compare(left, right)

    return holds


def _checked(value: int, like: Any) -> int:
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
            return _checked(int(left) + int(right), left)
        if kind is dt.timedelta:
            return _moved(lambda: left + right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget.build(8 * (len(left) + len(right)))
        if len(left) + len(right) > MAX_ITEMS:
            raise BudgetSpent(f"it makes a list of more than {MAX_ITEMS:,} items")
        return [*left, *right]
    if {kind, type(right)} == {dt.datetime, dt.timedelta}:
        return _moved(lambda: left + right)
    raise _undefined("+", left, right)


def subtract(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            return left - right
        if kind is int or kind is Unsigned:
            return _checked(int(left) - int(right), left)
        if kind is dt.datetime or kind is dt.timedelta:
            return _moved(lambda: left - right)
    if kind is dt.datetime and type(right) is dt.timedelta:
        return _moved(lambda: left - right)
    raise _undefined("-", left, right)


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            return left * right
        if kind is int or kind is Unsigned:
            return _checked(int(left) * int(right), left)
    raise _undefined("*", left, right)


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
            return _checked(quotient if (left < 0) == (right < 0) else -quotient, left)
    raise _undefined("/", left, right)


def modulo(left: Any, right: Any, budget: Budget) -> Any:
    kind = type(left)
    if kind is type(right) and (kind is int or kind is Unsigned):
        if right == 0:
            raise CelError("modulo by zero")
        rest = abs(int(left)) % abs(int(right))
        return _checked(rest if left >= 0 else -rest, left)
    raise _undefined("%", left, right)


def negate(value: Any) -> Any:
    if type(value) is float:
        return -value
    if type(value) is int:
        return _checked(-value, value)
    raise _undefined("-", value)


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
        if not _is_number(key):
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


# --- functions ------------------------------------------------------------------------------------------------------


def size(value: Any, budget: Budget) -> int:
    """Characters of a text, bytes, items of a list, entries of a map."""
    if isinstance(value, str | bytes | list | tuple | Mapping) and not isinstance(value, TypeName):
        return len(value)
    raise _undefined("size", value)


def size_in_bytes(value: Any, budget: Budget) -> int:
    """As `size`, but of a text the bytes of its UTF-8: what keys have been made with since 0.1.0."""
    if isinstance(value, str):
        budget.spend(len(value) // _CHARACTERS_PER_UNIT)
        return len(value.encode("utf-8", "surrogatepass"))
    return size(value, budget)


def to_string(value: Any, budget: Budget) -> str:
    """A text: doubles without an exponent, times in ISO 8601 with their offset, durations as 1h2m3s."""
    match value:
        case bool():
            return "true" if value else "false"
        case TypeName():
            raise _undefined("string", value)
        case str():
            return value
        case int():
            return str(int(value))
        case float():
            return _double_text(value)
        case bytes():
            budget.build(len(value))
            return value.decode("utf-8", "replace")
        case dt.datetime():
            digits = f"{value.microsecond:06d}"
            fraction = "" if digits == "000000" else f".{digits[:3] if digits.endswith('000') else digits}"
            return f"{value.replace(microsecond=0, tzinfo=None).isoformat()}{fraction}{value.isoformat()[-6:]}"
        case dt.timedelta():
            return _duration_text(value)
    raise _undefined("string", value)


def _double_text(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration_text(value: dt.timedelta) -> str:
    micros = round(value / dt.timedelta(microseconds=1))
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    if micros < 1_000_000:
        unit, per = ("ms", 1_000) if micros >= 1_000 else ("µs", 1)
        return f"{sign}{_double_text(micros / per)}{unit}" if micros else "0s"
    minutes, rest = divmod(micros, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_double_text(float(Decimal(rest) / 1_000_000))}s"
    return f"{sign}{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{seconds}"


def to_int(value: Any, budget: Budget) -> int:
    match value:
        case bool():
            return int(value)
        case int():
            return _checked(int(value), 0)
        case float():
            if not -(2.0**63) < value < 2.0**63:
                raise CelError("int(…) of a number beyond 64 bits")
            return int(value)
        case str() if not isinstance(value, TypeName):
            if len(value) > 20 or not _INTEGER.fullmatch(value):
                raise CelError(f"int({value[:40]!r}): no whole number")
            return _checked(int(value), 0)
        case dt.datetime():
            return math.floor(value.timestamp())
    raise _undefined("int", value)


def to_uint(value: Any, budget: Budget) -> Unsigned:
    if isinstance(value, str) and not isinstance(value, TypeName):
        if len(value) > 20 or not value.isascii() or not value.isdigit():
            raise CelError(f"uint({value[:40]!r}): no whole number from 0 on")
        value = int(value)
    if _is_number(value):
        if not 0 <= value < 2**64:
            raise CelError("uint(…) of a number that is negative or beyond 64 bits")
        return Unsigned(int(value))
    raise _undefined("uint", value)


def to_double(value: Any, budget: Budget) -> float:
    if isinstance(value, str) and not isinstance(value, TypeName):
        if len(value) > 400 or not _DOUBLE.fullmatch(value):
            raise CelError(f"double({value[:40]!r}): no number")
        return float(value)
    if _is_number(value):
        try:
            return float(value)
        except OverflowError:
            raise CelError("double(…) of a number that is too large") from None
    raise _undefined("double", value)


def to_bytes(value: Any, budget: Budget) -> bytes:
    if isinstance(value, str) and not isinstance(value, TypeName):
        budget.build(len(value))
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    raise _undefined("bytes", value)


def to_bool(value: Any, budget: Budget) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false") and isinstance(value, str):
        return value == "true"
    raise _undefined("bool", value)


def to_timestamp(value: Any, budget: Budget) -> dt.datetime:
    """Of RFC 3339 text, with a fraction of up to microseconds (more digits are cut), or of seconds since 1970."""
    if isinstance(value, dt.datetime):
        return value
    if type(value) is int:
        try:
            return dt.datetime.fromtimestamp(value, dt.UTC)
        except (OverflowError, ValueError, OSError):
            raise CelError("timestamp(…): out of range") from None
    if not isinstance(value, str) or isinstance(value, TypeName):
        raise _undefined("timestamp", value)
    if len(value) > 40 or not _TIMESTAMP.fullmatch(value):
        raise CelError(f"timestamp({value[:40]!r}): write it like 2026-01-31T10:00:00Z")
    text = re.sub(r"(\.\d{6})\d+", r"\1", value.upper())
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise CelError(f"timestamp({value[:40]!r}): {error}") from None


def to_duration(value: Any, budget: Budget) -> dt.timedelta:
    """Of text such as 1h30m, 1.5s, 100ms."""
    if isinstance(value, dt.timedelta):
        return value
    if not isinstance(value, str) or isinstance(value, TypeName):
        raise _undefined("duration", value)
    sign, text = (-1, value[1:]) if value[:1] == "-" else (1, value.removeprefix("+"))
    parts = _DURATION.findall(text)
    if text != "0" and (len(value) > 60 or not parts or "".join(map("".join, parts)) != text):
        raise CelError(f"duration({value[:40]!r}): write it like 1h30m, 90s or 100ms")
    try:
        return sign * sum((dt.timedelta(seconds=float(n) * _UNIT_S[unit]) for n, unit in parts), dt.timedelta())
    except OverflowError:
        raise CelError(f"duration({value[:40]!r}): out of range") from None


def dyn(value: Any, budget: Budget) -> Any:
    return value


def type_of(value: Any, budget: Budget) -> TypeName:
    return TypeName(type_name(value))


def _texts(name: str, target: Any, argument: Any) -> None:
    if type(target) is not str or type(argument) is not str:
        raise _undefined(f"{type_name(target)}.{name}", argument)


def text_contains(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("contains", target, argument)
    budget.spend((len(target) + len(argument)) // _CHARACTERS_PER_UNIT)
    return argument in target


def starts_with(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("startsWith", target, argument)
    _compare(argument, target, budget)
    return bool(target.startswith(argument))


def ends_with(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("endsWith", target, argument)
    _compare(argument, target, budget)
    return bool(target.endswith(argument))


def matches(target: Any, argument: Any, budget: Budget) -> bool:
    """RE2 finds the pattern anywhere in the text, in time linear in both."""
    _texts("matches", target, argument)
    if len(argument) > MAX_PATTERN:
        raise CelError(f"matches(…): the pattern has {len(argument):,} characters, {MAX_PATTERN:,} are allowed")
    budget.spend(20 + (1 + len(target) // 64) * (1 + len(argument) // 16))
    pattern = _pattern_within(argument, budget)
    budget.spend(len(target) * max(pattern.programsize - _LARGE_PROGRAM, 0) // _WALKED_PER_UNIT)
    try:
        return pattern.search(target) is not None
    except UnicodeError:
        raise CelError("matches(…): the text holds half a character (a lone surrogate)") from None


def _pattern_within(source: str, budget: Budget) -> Any:
    """The compiled pattern; compiling costs what it takes: about a microsecond for each instruction."""
    known = _pattern.cache_info().misses
    try:
        pattern = _pattern(source)
    except CelError as error:
        budget.spend(_TOO_LARGE_UNITS if "too large" in str(error) else len(source))
        raise
    if _pattern.cache_info().misses != known:
        budget.spend(2 * pattern.programsize)
    return pattern


@functools.lru_cache(maxsize=64)
def _pattern(source: str) -> Any:
    options = re2.Options()
    options.max_mem = 2 * 1024 * 1024
    options.log_errors = False
    try:
        return re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise CelError(f"matches(…): {source[:60]!r} is no regular expression of RE2: {reason}") from None


def _of_time(name: str, of_timestamp: Callable[[dt.datetime], int], divisor_us: int | None) -> Callable[..., int]:
    def read(target: Any, budget: Budget) -> int:
        if isinstance(target, dt.datetime):
            return of_timestamp(target)
        if isinstance(target, dt.timedelta) and divisor_us is not None:
            micros = round(target / dt.timedelta(microseconds=1))
            return int(math.copysign(abs(micros) // divisor_us, micros))
        raise _undefined(f"{type_name(target)}.{name}")

    return read


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "size": (1, size), "string": (1, to_string), "int": (1, to_int), "uint": (1, to_uint), "double": (1, to_double),
    "bytes": (1, to_bytes), "bool": (1, to_bool), "timestamp": (1, to_timestamp), "duration": (1, to_duration),
    "dyn": (1, dyn), "type": (1, type_of), "matches": (2, matches),
}  # fmt: skip
"""By name: how many arguments it takes, and the function."""

METHODS: dict[str, tuple[int, Callable[..., Any]]] = {
    "size": (0, size), "contains": (1, text_contains), "startsWith": (1, starts_with), "endsWith": (1, ends_with),
    "matches": (1, matches),
    **{
        name: (0, _of_time(name, of_timestamp, divisor_us))
        for name, of_timestamp, divisor_us in (
            ("getFullYear", lambda at: at.year, None),
            ("getMonth", lambda at: at.month - 1, None),
            ("getDate", lambda at: at.day, None),
            ("getDayOfMonth", lambda at: at.day - 1, None),
            ("getDayOfWeek", lambda at: at.isoweekday() % 7, None),
            ("getDayOfYear", lambda at: at.timetuple().tm_yday - 1, None),
            ("getHours", lambda at: at.hour, 3_600_000_000),
            ("getMinutes", lambda at: at.minute, 60_000_000),
            ("getSeconds", lambda at: at.second, 1_000_000),
            ("getMilliseconds", lambda at: at.microsecond // 1000, 1_000),
        )
    },
}  # fmt: skip
"""By name: how many arguments it takes besides the value that it is called on, and the function."""
