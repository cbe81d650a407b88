import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.errors import ExpressionError, MissingField
from workflows.expressions import compile_expression, compile_template
from workflows.expressions.template import split

SCOPE: dict[str, Any] = {
    "input": {"n": 3, "f": 2.5, "items": [{"q": 2, "p": 5}], "name": "x", "nothing": None},
    "event": {"data": {"plan": "pro"}},
    "steps": {"a-b": {"output": {"total": 7}}},
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("input.n + 1", 4),
        ("input.f > 2.0", True),
        ("steps['a-b'].output.total > 0", True),
        ("input.items.map(i, i.q * i.p)", [10]),
        ("has(input.missing) ? 1 : 0", 0),
        ("event.data.plan == 'pro' ? 120 : 0", 120),
        ("{'a': input.n}", {"a": 3}),
        ("input.nothing", None),
        ("duration('90s')", 90.0),
        ("timestamp('2024-01-01T00:00:00Z')", "2024-01-01T00:00:00+00:00"),
    ],
)
def test_cel_gives_json(source: str, value: Any) -> None:
    assert compile_expression(source).evaluate(SCOPE) == value


@pytest.mark.parametrize(
    "source",
    [
        "size(input.items)",
        "input.name.startsWith('x')",
        "input.name.matches('^x$')",
        "string(1) + string(2)",
        "int('1')",
        "input.items.exists(i, i.q > 1)",
        "timestamp('2024-01-01T00:00:00Z').getFullYear()",
        "[1, 2].filter(n, n > 1)",
        "has(input.n)",
        "duration('1h')",
        "double(1) + 0.5",
    ],
)
def test_the_functions_of_cel_are_known(source: str) -> None:
    assert compile_expression(source).evaluate(SCOPE) is not None


def test_an_expression_is_compiled_once() -> None:
    assert compile_expression("input.n + 41") is compile_expression("input.n + 41")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 +", "line 1, column 4"),
        ("inptu.n", "unknown name 'inptu' at column 1; did you mean 'input'"),
        ("", "empty"),
        ("input.n +\n  * 2", "line 2"),
    ],
)
def test_a_bad_expression_is_named_with_its_position(source: str, says: str) -> None:
    with pytest.raises(ExpressionError, match=says.replace("(", r"\(").replace("+", r"\+")):
        compile_expression(source)


def test_a_missing_field_makes_a_filter_false_and_a_template_fail() -> None:
    assert compile_expression("input.gone == 1").is_true(SCOPE) is False
    with pytest.raises(MissingField, match="url: `input.gone`: there is no field 'gone'"):
        compile_template({"url": "${ input.gone }/x"}).render(SCOPE)


def test_a_filter_must_be_a_boolean() -> None:
    with pytest.raises(ExpressionError, match="must give true or false"):
        compile_expression("input.n").is_true(SCOPE)


def test_evaluation_errors_name_the_expression() -> None:
    with pytest.raises(ExpressionError, match=r"`input.n / 0`"):
        compile_expression("input.n / 0").evaluate(SCOPE)
    with pytest.raises(ExpressionError, match="CEL does not coerce"):
        compile_expression("input.f * 2").evaluate(SCOPE)


def test_an_expression_knows_what_it_reads() -> None:
    expression = compile_expression("steps['a-b'].output.total + steps.c.output + input.items.map(i, i.q)[0]")
    assert expression.steps == {"a-b", "c"}
    assert expression.names == {"steps", "input"}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${ input.n }", 3),
        ("${input.items}", [{"q": 2, "p": 5}]),
        ("order ${ input.n } of ${ input.name }", "order 3 of x"),
        ("${ {'a': '}'} }", {"a": "}"}),
        ("$${ literal }", "${ literal }"),
        ({"a": ["${ input.f }", 1, None]}, {"a": [2.5, 1, None]}),
        ("list: ${ input.items }", 'list: [{"p": 5, "q": 2}]'),
    ],
)
def test_templates_keep_the_type_of_a_whole_expression(template: Any, value: Any) -> None:
    assert compile_template(template).render(SCOPE) == value


def test_an_unclosed_template_is_refused() -> None:
    with pytest.raises(ExpressionError, match="never closed"):
        compile_template("${ input.n")


@given(st.text(alphabet=st.characters(exclude_characters="$", exclude_categories=["Cs"])))
def test_text_without_templates_is_left_alone(text: str) -> None:
    assert compile_template(text).render({}) == text
    assert "".join(part for _, part in split(text)) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    )
)
def test_values_pass_through_a_template_unchanged(value: Any) -> None:
    rendered = compile_template("${ input.v }").render({"input": {"v": value}})
    assert json.dumps(rendered, sort_keys=True) == json.dumps(value, sort_keys=True)
