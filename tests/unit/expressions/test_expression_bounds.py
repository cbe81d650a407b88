"""Expressions that would take a process down: refused when they are compiled, or ended by their budget."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from workflows.definitions.validate import DefinitionProblems, parse
from workflows.errors import ExpressionError
from workflows.expressions import STEP_UNITS, compile_expression, compile_template

LIST = list(range(10_000))
SCOPE: dict[str, Any] = {"input": {"l": LIST, "s": "a" * 200_000, "o": [{"sku": n, "q": n % 7} for n in LIST]}}


def chained(times: int, start: str = "input.l") -> str:
    return start + "".join(f".map(x, {'+'.join(['x'] * 20)})" for _ in range(times))


ENDED = {
    "nested comprehensions": "input.l.map(a, input.l.map(b, input.l.filter(c, c == a + b).size())).size()",
    "nested all": "input.l.all(a, input.l.all(b, input.l.all(c, a + b + c >= 0)))",
    "chained growth of texts": chained(7, "['aaaaaaaaaa']"),
    "chained growth of lists": chained(7, "[[1, 2, 3]]"),
    "a list in each item": "input.l.map(x, input.l)",
    "a text in each item": "input.l.map(x, input.s + string(x))",
    "membership in each item": "input.l.filter(x, (x + 0.5 > 0.0 ? x : 0) in input.l)".replace("x + 0.5 > 0.0", "true"),
    "equality of lists in each item": "input.l.filter(x, input.l == input.l)",
    "search in each item": "input.l.filter(x, input.s.contains('aaaaaaaaaab'))",
    "comparison of long texts in each item": "[input.s + 'a'].all(s, input.l.map(x, input.l.filter(y, s == input.s + 'a')))",
    "order of long texts in each item": "[input.s + 'a'].all(s, input.l.all(x, input.l.all(y, s >= input.s)))",
    "beginnings of long texts in each item": "[input.s + 'a'].all(s, input.l.all(x, input.l.all(y, s.startsWith(input.s))))",
    "whole-number keys in each item": f"[{{{', '.join(f'{n}: {n}' for n in range(900))}}}].all(m, input.l.all(x, input.l.all(y, m[899] == 899)))",
    "a large pattern over a long text": f"input.s.matches('{'a[ab]{1000}' * 40}c')",
    "a new pattern in each item": r"input.l.all(x, !''.matches('(?:a{30}){30}b' + string(x)))",
    "a pattern that is too large in each item": r"input.l.exists(x, ''.matches(r'\pL{900}' + string(x)))",
    "a pattern in each item": "input.l.filter(x, input.s.matches('(a+)+b'))",
}


@pytest.mark.parametrize("source", ENDED.values(), ids=ENDED)
@pytest.mark.parametrize("units", [100_000, STEP_UNITS], ids=["edge", "step"])
def test_an_evaluation_that_costs_too_much_is_ended(source: str, units: int) -> None:
    begun = time.thread_time()
    with pytest.raises(ExpressionError, match="too many steps|builds too much|more than"):
        compile_expression(source, units=units).evaluate(SCOPE)
    assert time.thread_time() - begun < 5  # about half a second; several times that while coverage counts lines


@pytest.mark.parametrize(
    "source",
    ["(" * 5_000 + "1" + ")" * 5_000, "[" * 5_000, "!" * 5_000 + "true", "-" * 5_001 + "1", " " * 70_000 + "1 +",
     "1" + "+1" * 40_000, "input" + ".a" * 30_000, "f(" * 3_000, "{" * 3_000, "true ? 1 : (" * 2_000, "'" + "a" * 70_000,
     "input.l" + ".map(x, x)" * 3_000, "9" * 5_000, "input.s.matches('" + "a" * 5_000 + "')"],
    ids=lambda source: f"{source[:12]}…{len(source)}",
)  # fmt: skip
def test_an_oversized_text_is_refused_and_nothing_else(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(source).evaluate(SCOPE)


@pytest.mark.parametrize(
    ("source", "says"),
    [("1" + "+1" * 3_000, "parts"), ("'" + "a" * 9_000 + "'", "characters"), ("(" * 40 + "1" + ")" * 40, "levels")],
)
def test_publishing_has_narrower_bounds_than_what_is_stored(source: str, says: str) -> None:
    assert compile_expression(source).evaluate({}) is not None
    for definition in (
        {"flow": "f", "steps": [{"id": "a", "type": "noop", "if": f"{source} == 1"}]},
        {"flow": "f", "steps": [{"id": "a", "type": "noop", "config": {"output": f"${{ {source} }}"}}]},
        {"flow": "f", "concurrency": [{"limit": 1, "key": source}], "steps": [{"id": "a", "type": "noop"}]},
    ):
        with pytest.raises(DefinitionProblems, match=f"{says}; .* are allowed"):
            parse(definition)


def test_lists_of_ten_thousand_are_worked_through() -> None:
    assert compile_expression("input.o.filter(i, i.q > 3).map(i, i.sku).size()").evaluate(SCOPE) == 4284
    assert compile_expression("input.o.exists(i, i.sku == 9999)").is_true(SCOPE)


def test_two_hundred_operators_in_a_row_are_an_expression() -> None:
    assert compile_expression("1" + " + 1" * 200).evaluate({}) == 201
    assert compile_expression(" || ".join(["input.l.size() == 1"] * 200)).is_true(SCOPE) is False


def test_the_expressions_of_a_template_share_one_budget() -> None:
    heavy = "${ input.o.filter(i, i.q > 3).size() }"
    assert compile_template([heavy] * 2).render(SCOPE) == [4284, 4284]
    with pytest.raises(ExpressionError, match="too many steps"):
        compile_template([heavy] * 200).render(SCOPE)
    with pytest.raises(ExpressionError, match="32 MiB"):
        compile_template(["${ input.l }"] * 400).render(SCOPE)


def test_what_an_expression_does_not_read_does_not_matter() -> None:
    scope = {"input": {"name": "x", "n": 10**40, "half": "\ud800"}}
    assert compile_expression("input.name == 'x'").is_true(scope)
    assert compile_expression("input.n").evaluate(scope) == 10**40
    assert compile_template("id=${ input.n }").render(scope) == f"id={10**40}"
    with pytest.raises(ExpressionError, match="64 bits"):
        compile_expression("input.n + 1").evaluate(scope)


def test_one_owner_evicts_no_expression_of_another() -> None:
    kept = compile_expression("input.n == 77", owner="a")
    for n in range(2_000):
        compile_expression(f"input.n == {n}", owner="b")
    assert compile_expression("input.n == 77", owner="a") is kept


def test_memory_stays_bounded_while_bombs_are_evaluated() -> None:
    """In a process of its own, which may take 200 MiB more than it has at its start."""
    script = f"""
import resource, sys
from workflows.errors import ExpressionError
from workflows.expressions import STEP_UNITS, compile_expression
scope = {{"input": {{"l": list(range(10_000)), "s": "a" * 200_000}}}}
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 200 * 1024 * 1024,) * 2)
for source in {[*ENDED.values()]!r} + ["1" + "+1" * 40_000, " " * 70_000 + "1 +"]:
    try:
        compile_expression(source, units=STEP_UNITS).evaluate(scope)
    except ExpressionError:
        continue
    sys.exit(f"not ended: {{source[:60]}}")
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
