"""The evaluator gives what Google's CEL gives (cel-expr-python), for random expressions over random JSON.

Where they are meant to differ is said in docs/reference/expressions.md, and left out here: texts of doubles, times and
durations; times keep their offset; JSON has no bytes, infinity and NaN; Google's refuses more than 32 operators.
"""

from __future__ import annotations

import json
import math
from typing import Any

from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.errors import ExpressionError
from workflows.expressions import compile_expression

ORACLE = cel.NewEnv(variables={"input": cel.Type.DYN, "event": cel.Type.DYN})
FAILED = object()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([-(2**63), 2**63 - 1, 2**64 - 1])
    | st.sampled_from([0.0, 1.0, -1.5, 2.5, 1e20])
    | st.sampled_from(["", "a", "ab", "b", "1", "é😀"])
)
values = st.recursive(scalars, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from("abc"), c, max_size=3),
                      max_leaves=6)  # fmt: skip
scopes = st.fixed_dictionaries({"input": st.dictionaries(st.sampled_from("abc"), values, max_size=3), "event": values})

literals = st.sampled_from(
    ["0", "1", "-1", "2", "3u", "0u", "1.5", "2.0", "-0.5", "true", "false", "null", "'a'", "'ab'", "''", "[]", "[1, 2]",
     "['a']", "{'a': 1}", "{}", "9223372036854775807", "'1'", "0x1F", "r'a\\b'", "\"b\""]
)  # fmt: skip
reads = st.sampled_from(["input.a", "input.b", "input.c", "input['a']", "input.a.b", "event", "event.a", "input", "x"])


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"])
    macro = st.sampled_from(["map", "filter", "all", "exists", "exists_one"])
    function = st.sampled_from(["size", "int", "uint", "double", "dyn"])
    method = st.sampled_from(["contains", "startsWith", "endsWith", "matches"])
    return (
        st.tuples(inner, binary, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})")
        | st.tuples(inner, macro, inner).map(lambda t: f"{t[0]}.{t[1]}(x, {t[2]})")
        | st.tuples(function, inner).map(lambda t: f"{t[0]}({t[1]})")
        | st.tuples(inner, method, inner).map(lambda t: f"{t[0]}.{t[1]}({t[2]})")
        | st.tuples(inner, inner).map(lambda t: f"{t[0]}[{t[1]}]")
        | st.tuples(inner, inner).map(lambda t: f"[{t[0]}, {t[1]}]")
        | st.tuples(inner, inner).map(lambda t: f"{{'a': {t[0]}, 'b': {t[1]}}}")
        | st.tuples(st.sampled_from(["!", "-"]), inner).map(lambda t: f"{t[0]}({t[1]})")
        | st.sampled_from(["has(input.a)", "has(input.a.b)", "has(event.a)"])
    )


expressions = st.recursive(literals | reads, compound, max_leaves=6)


def googles(source: str, scope: dict[str, Any]) -> Any:
    try:
        found = ORACLE.compile(source, disable_check=True).eval(data=scope)
        return FAILED if found.type() == cel.Type.ERROR else plain(found.plain_value())
    except (RuntimeError, NoJson):
        return FAILED


def in_any_order(value: Any) -> str:
    """The keys of a map come in no order, so neither do lists made of them."""
    if isinstance(value, list):
        return f"[{sorted(map(in_any_order, value))}]"
    if isinstance(value, dict):
        return f"{{{sorted((key, in_any_order(item)) for key, item in value.items())}}}"
    return json.dumps(value)


def ours(source: str, scope: dict[str, Any]) -> Any:
    try:
        return compile_expression(source).evaluate(scope)
    except ExpressionError:
        return FAILED


class NoJson(Exception):
    pass


def plain(value: Any) -> Any:
    """As JSON. Raises NoJson."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise NoJson
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise NoJson


@settings(max_examples=1_500, deadline=None)
@given(expressions, scopes)
def test_it_gives_what_googles_evaluator_gives(source: str, scope: dict[str, Any]) -> None:
    source = f"[0].map(x, {source})[0]"
    expected, found = googles(source, scope), ours(source, scope)
    if expected is FAILED or found is FAILED:
        assert expected is found, (source, scope)
    else:
        assert json.dumps(found) == json.dumps(expected) or in_any_order(found) == in_any_order(expected)
