"""The functions and methods of CEL. Each whose cost grows with its operands spends from the budget first."""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import re2

from workflows.expressions.nodes import Unsigned
from workflows.expressions.values import (
    CHARACTERS_PER_UNIT,
    Budget,
    CelError,
    TypeName,
    is_number,
    spend_comparison,
    type_name,
    undefined,
    within_64_bits,
)

MAX_PATTERN = 1_000
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


def size(value: Any, budget: Budget) -> int:
    """Characters of a text, bytes, items of a list, entries of a map."""
    if isinstance(value, str | bytes | list | tuple | Mapping) and not isinstance(value, TypeName):
        return len(value)
    raise undefined("size", value)


def size_in_bytes(value: Any, budget: Budget) -> int:
    """As `size`, but of a text the bytes of its UTF-8: what keys have been made with since 0.1.0."""
    if isinstance(value, str):
        budget.spend(len(value) // CHARACTERS_PER_UNIT)
        return len(value.encode("utf-8", "surrogatepass"))
    return size(value, budget)


def to_string(value: Any, budget: Budget) -> str:
    """A text: doubles without an exponent, times in ISO 8601 with their offset, durations as 1h2m3s."""
    match value:
        case bool():
            return "true" if value else "false"
        case TypeName():
            raise undefined("string", value)
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
    raise undefined("string", value)


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
            return within_64_bits(int(value), 0)
        case float():
            if not -(2.0**63) < value < 2.0**63:
                raise CelError("int(…) of a number beyond 64 bits")
            return int(value)
        case str() if not isinstance(value, TypeName):
            if len(value) > 20 or not _INTEGER.fullmatch(value):
                raise CelError(f"int({value[:40]!r}): no whole number")
            return within_64_bits(int(value), 0)
        case dt.datetime():
            return math.floor(value.timestamp())
    raise undefined("int", value)


def to_uint(value: Any, budget: Budget) -> Unsigned:
    if isinstance(value, str) and not isinstance(value, TypeName):
        if len(value) > 20 or not value.isascii() or not value.isdigit():
            raise CelError(f"uint({value[:40]!r}): no whole number from 0 on")
        value = int(value)
    if is_number(value):
        if not 0 <= value < 2**64:
            raise CelError("uint(…) of a number that is negative or beyond 64 bits")
        return Unsigned(int(value))
    raise undefined("uint", value)


def to_double(value: Any, budget: Budget) -> float:
    if isinstance(value, str) and not isinstance(value, TypeName):
        if len(value) > 400 or not _DOUBLE.fullmatch(value):
            raise CelError(f"double({value[:40]!r}): no number")
        return float(value)
    if is_number(value):
        try:
            return float(value)
        except OverflowError:
            raise CelError("double(…) of a number that is too large") from None
    raise undefined("double", value)


def to_bytes(value: Any, budget: Budget) -> bytes:
    if isinstance(value, str) and not isinstance(value, TypeName):
        budget.build(len(value))
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    raise undefined("bytes", value)


def to_bool(value: Any, budget: Budget) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false") and isinstance(value, str):
        return value == "true"
    raise undefined("bool", value)


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
        raise undefined("timestamp", value)
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
        raise undefined("duration", value)
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
        raise undefined(f"{type_name(target)}.{name}", argument)


def text_contains(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("contains", target, argument)
    budget.spend((len(target) + len(argument)) // CHARACTERS_PER_UNIT)
    return argument in target


def starts_with(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("startsWith", target, argument)
    spend_comparison(argument, target, budget)
    return bool(target.startswith(argument))


def ends_with(target: Any, argument: Any, budget: Budget) -> bool:
    _texts("endsWith", target, argument)
    spend_comparison(argument, target, budget)
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
        raise undefined(f"{type_name(target)}.{name}")

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
