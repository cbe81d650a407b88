"""The syntax of CEL: a text becomes a tree of nodes, within bounds on length, depth and number of nodes.

Grammar: the language definition of CEL (github.com/google/cel-spec), without messages, optional fields and bytes of
protocol buffers. Chains (`a + b + …`, `a && b && …`, `a ? b : c ? d : …`) are one flat node, so that their length costs
no depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from workflows.errors import ExpressionError
from workflows.expressions.nodes import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Call,
    Chain,
    Choice,
    Comprehension,
    Has,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Path,
    Unary,
    Unsigned,
)
from workflows.expressions.tokens import KEYWORDS, Token, fail, scan

MAX_CHARACTERS = 64 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 60
MACROS = {"map": (2, 3), "filter": (2,), "all": (2,), "exists": (2,), "exists_one": (2,), "existsOne": (2,)}
RESERVED = frozenset({"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
                      "package", "namespace", "return", "var", "void", "while"})  # fmt: skip
_PRECEDENCE = {"==": 1, "!=": 1, "<": 1, "<=": 1, ">": 1, ">=": 1, "in": 1, "+": 2, "-": 2, "*": 3, "/": 3, "%": 3}


class Tree(NamedTuple):
    root: Node
    nodes: int
    depth: int


def parse(source: str) -> Tree:
    """The tree of an expression. Raises ExpressionError with line and column, or with the bound that it exceeds."""
    if len(source) > MAX_CHARACTERS:
        raise ExpressionError(f"The expression has {len(source):,} characters; {MAX_CHARACTERS:,} are allowed.")
    return _Parser(source).whole()


class _Parser:
    """Recursive descent with precedence climbing."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens, self._literals = scan(source)
        self._position = 0
        self._nodes = 0
        self._depth = 0
        self._deepest = 0

    def whole(self) -> Tree:
        root = self._expression()
        if self._peek.kind != "end":
            self._refuse(self._peek)
        return Tree(root, self._nodes, self._deepest)

    @property
    def _peek(self) -> Token:
        return self._tokens[self._position]

    def _next(self) -> Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._peek.kind == "operator" and self._peek.text in texts

    def _expect(self, text: str) -> None:
        if not self._is(text):
            self._refuse(self._peek, f"expected {text!r}")
        self._position += 1

    def _refuse(self, token: Token, instead: str = "") -> NoReturn:
        found = "the expression ends too early" if token.kind == "end" else f"{token.text[:40]!r} is not expected here"
        fail(self._source, token.at, f"{found}{f'; {instead}' if instead else ''}")

    def _made(self, node: Any) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ExpressionError(f"The expression has more than {MAX_NODES:,} parts.")
        return node

    # --- grammar ----------------------------------------------------------------------------------------------

    def _expression(self) -> Node:
        self._depth += 1
        self._deepest = max(self._deepest, self._depth)
        if self._depth > MAX_DEPTH:
            fail(self._source, self._peek.at, f"nested more than {MAX_DEPTH} levels deep")
        cases: list[tuple[Node, Node]] = []
        while True:
            condition = self._logic("||")
            if not self._is("?"):
                break
            self._position += 1
            value = self._logic("||")
            self._expect(":")
            cases.append((condition, value))
        self._depth -= 1
        return self._made(Choice(tuple(cases), condition)) if cases else condition

    def _logic(self, operator: str) -> Node:
        operands = [self._logic("&&") if operator == "||" else self._chain(1)]
        while self._is(operator):
            self._position += 1
            operands.append(self._logic("&&") if operator == "||" else self._chain(1))
        return self._made(Logic(operator, tuple(operands))) if len(operands) > 1 else operands[0]

    def _chain(self, level: int) -> Node:
        first = self._unary() if level > 3 else self._chain(level + 1)
        rest: list[tuple[str, Node]] = []
        while self._peek.kind == "operator" and _PRECEDENCE.get(self._peek.text) == level:
            operator = self._next().text
            rest.append((operator, self._unary() if level > 3 else self._chain(level + 1)))
        return self._made(Chain(first, tuple(rest))) if rest else first

    def _unary(self) -> Node:
        operators: list[str] = []
        while self._is("!", "-"):
            operators.append(self._next().text)
        if len(set(operators)) > 1 or len(operators) > MAX_DEPTH:
            self._refuse(self._peek, "put parentheses around what is negated")
        if operators[-1:] == ["-"] and self._peek.kind in {"int", "double"}:
            operators.pop()
            node = self._member(self._number(self._next(), sign=-1))
        else:
            node = self._member(self._primary())
        for operator in reversed(operators):
            node = self._made(Unary(operator, node))
        return node

    def _number(self, token: Token, sign: int = 1) -> Node:
        if token.kind == "double":
            value: Any = sign * float(token.text)
            if value in (float("inf"), float("-inf")):
                fail(self._source, token.at, "the number is out of range")
            return self._made(Literal(value))  # type: ignore[no-any-return]
        digits = token.text.rstrip("uU")
        if len(digits) > 30:
            fail(self._source, token.at, "the whole number is out of range")
        value = sign * (int(digits, 16) if digits[:2].lower() == "0x" else int(digits))
        is_unsigned = token.kind == "uint"
        if not (0 <= value <= UINT_MAX if is_unsigned else INT_MIN <= value <= INT_MAX):
            fail(self._source, token.at, "the whole number is out of range")
        return self._made(Literal(Unsigned(value) if is_unsigned else value))  # type: ignore[no-any-return]

    def _primary(self) -> Node:
        token = self._next()
        if token.kind == "literal":
            return self._made(Literal(self._literals[token.at]))  # type: ignore[no-any-return]
        if token.kind in {"int", "uint", "double"}:
            return self._number(token)
        if token.kind == "operator" and token.text == ".":
            token = self._next()
            if token.kind != "name":
                self._refuse(token)
        if token.kind == "name":
            return self._named(token)
        if token.kind == "operator" and token.text == "(":
            node = self._expression()
            self._expect(")")
            return node
        if token.kind == "operator" and token.text == "[":
            return self._made(ListOf(self._listed("]")))  # type: ignore[no-any-return]
        if token.kind == "operator" and token.text == "{":
            return self._map()
        return self._refuse(token)

    def _named(self, token: Token) -> Node:
        constants = {"true": True, "false": False, "null": None}
        if token.text in constants:
            return self._made(Literal(constants[token.text]))  # type: ignore[no-any-return]
        if token.text in RESERVED:
            fail(self._source, token.at, f"{token.text!r} is a reserved word")
        if self._is("{"):
            fail(
                self._source,
                token.at,
                f"there are no messages such as {token.text}{{…}}; write a map: {{'key': value}}",
            )
        if not self._is("("):
            return self._made(Name(token.text, token.at))  # type: ignore[no-any-return]
        self._position += 1
        arguments = self._listed(")")
        if token.text == "has":
            return self._has(arguments, token)
        return self._made(Call(token.text, None, arguments, token.at))  # type: ignore[no-any-return]

    def _has(self, arguments: tuple[Node, ...], token: Token) -> Node:
        only = arguments[0] if len(arguments) == 1 else None
        if not isinstance(only, Path) or not only.parts[-1][0]:
            fail(self._source, token.at, "has(…) takes one field: has(input.name)")
        operand = Path(only.root, only.parts[:-1]) if len(only.parts) > 1 else only.root
        return self._made(Has(operand, only.parts[-1][1]))  # type: ignore[no-any-return]

    def _listed(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._is(closing):
            items.append(self._expression())
            if not self._is(","):
                break
            self._position += 1
            if closing == ")" and self._is(closing):
                self._refuse(self._peek)
        self._expect(closing)
        return tuple(items)

    def _map(self) -> Node:
        pairs: list[tuple[Node, Node]] = []
        while not self._is("}"):
            key = self._expression()
            self._expect(":")
            pairs.append((key, self._expression()))
            if not self._is(","):
                break
            self._position += 1
        self._expect("}")
        return self._made(MapOf(tuple(pairs)))  # type: ignore[no-any-return]

    def _member(self, node: Node) -> Node:
        parts: list[tuple[bool, Any]] = []
        calls = 0
        while self._is(".", "["):
            if self._next().text == "[":
                index = self._expression()
                self._expect("]")
                is_text = isinstance(index, Literal) and isinstance(index.value, str)
                parts.append((is_text, index.value if is_text else index))  # type: ignore[union-attr]
                self._nodes += 1
                continue
            field = self._next()
            if field.kind != "name" or field.text in KEYWORDS:
                self._refuse(field)
            if not self._is("("):
                parts.append((True, field.text))
                self._nodes += 1
                continue
            self._position += 1
            calls += 1
            if calls > MAX_DEPTH:
                fail(self._source, field.at, f"more than {MAX_DEPTH} calls in a row")
            node = self._method(self._made(Path(node, tuple(parts))) if parts else node, field)
            parts = []
        return self._made(Path(node, tuple(parts))) if parts else node

    def _method(self, target: Node, field: Token) -> Node:
        arguments = self._listed(")")
        if field.text in MACROS and len(arguments) in MACROS[field.text]:
            variable = arguments[0]
            if not isinstance(variable, Name):
                fail(self._source, field.at, f"the first argument of {field.text} is a simple name")
            kind = "exists_one" if field.text == "existsOne" else field.text
            return self._made(Comprehension(kind, target, variable.text, arguments[1:]))  # type: ignore[no-any-return]
        return self._made(Call(field.text, target, arguments, field.at))  # type: ignore[no-any-return]
