"""JSON Schemas of users: they resolve within themselves, fetch nothing, and cost what is known before they are applied.

Draft 2020-12, by `jsonschema-rs`. Patterns are linear; those with look-around backtrack within a bound. What can't be
bounded by the library is counted here first: a schema of 200 bytes can ask for 2^100 evaluations of one value.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from workflows.errors import InvalidInput

if TYPE_CHECKING:  # a large library, which is loaded with the first schema
    import jsonschema_rs

MAX_DEPTH = 64
MAX_NODES = 5_000
MAX_EVALUATIONS = 2_000_000
"""Schema nodes times values: about a third of a second."""
MAX_VISITS = 200_000
MAX_PATTERNS = 256
PATTERN_BYTES = 64 * 1024 * 1024
"""What the patterns of a schema may take together, compiled; each may take an equal share."""
SHARE_MIN, SHARE_MAX = 256 * 1024, 10 * 1024 * 1024
UNEVALUATED = 2.6
"""`unevaluated…` looks again at all that applies beside it: nested in place, each multiplies the cost by this."""
MAX_PROBLEMS = 20
DETAILED_COST = 500_000
"""All problems are listed where characters times schema nodes stay below; else the first one is."""
MAX_MESSAGE = 300
_LOOK_AROUND = re.compile(r"\(\?<?[=!]|\(\?>|\\[1-9]|\\k<")
"""What the linear engine has no form for; such patterns backtrack, within a bound."""
METASCHEMAS = re.compile(r"^https?://json-schema\.org/draft(/2019-09|/2020-12|-0[467])/")

_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_OF_VALUES_MAPS = ("properties", "patternProperties")
_OF_VALUES = ("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "contains", "unevaluatedItems",
              "additionalItems")  # fmt: skip
_MAPS = frozenset({*_IN_PLACE_MAPS, *_OF_VALUES_MAPS, "$defs", "definitions"})
"""Keywords that hold subschemas by a name of the user's."""
_PLAIN = frozenset({"enum", "const", "default", "examples"})


class SchemaProblem(NamedTuple):
    """What is wrong at a path (the parts of it), in a schema or in a value."""

    path: tuple[str | int, ...]
    message: str

    def at(self, root: str) -> str:
        """The path as text, below `root`."""
        return ".".join(map(str, (root, *self.path)))


class SchemaRefused(InvalidInput):
    """The JSON Schema can't be used; `problems` says where and why."""

    def __init__(self, problems: list[SchemaProblem]) -> None:
        super().__init__("; ".join(f"{problem.at('schema')}: {problem.message}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """A schema that values are checked against."""

    source: Mapping[str, Any] = field(repr=False)
    left_out: tuple[SchemaProblem, ...] = ()
    """Parts of a stored schema that can't be applied any more, and are not."""
    _validator: Any = field(repr=False)
    _cost: _Cost = field(repr=False)

    def problems(self, value: Any) -> list[SchemaProblem]:
        """What is wrong with a value, at most twenty of it, in the order of the paths."""
        if self._validator is None:
            return []
        if not self._cost.is_bounded(value):
            return [SchemaProblem((), "too large for this schema: checking it would take too many steps")]
        try:
            if self._validator.is_valid(value):
                return []
            found = self._errors(value)
        except UnicodeEncodeError:
            return [SchemaProblem((), "a text holds half a character (a lone surrogate)")]
        except (ValueError, RecursionError) as error:
            return [SchemaProblem((), str(error)[:MAX_MESSAGE])]
        return sorted(found, key=lambda problem: [str(part) for part in problem.path])[:MAX_PROBLEMS]

    def _errors(self, value: Any) -> list[SchemaProblem]:
        if self._cost.unfolded * _characters(value) < DETAILED_COST:
            return [_problem(error) for error in itertools.islice(self._validator.iter_errors(value), 200)]
        from jsonschema_rs import ValidationError  # noqa: PLC0415

        try:
            self._validator.validate(value)
        except ValidationError as error:
            return [_problem(error)]
        return []


def _problem(error: jsonschema_rs.ValidationError) -> SchemaProblem:
    message = error.message
    shown = message if len(message) <= MAX_MESSAGE else f"{message[:100]} … {message[-150:]}"
    return SchemaProblem(tuple(error.instance_path), shown)


def compile_schema(schema: Any) -> JsonSchema:
    """A schema that is published or put. Raises SchemaRefused with everything that is wrong, each with its path."""
    if not isinstance(schema, dict):
        raise SchemaRefused([SchemaProblem((), "a JSON Schema is an object")])
    problems = [*_shape_problems(schema), *(problem for problem, _ in _reference_problems(schema))]
    patterns = len(set(_patterns(schema)))
    if patterns > MAX_PATTERNS:
        problems.append(SchemaProblem((), f"more than {MAX_PATTERNS} patterns"))
    if problems:
        raise SchemaRefused(problems)
    from jsonschema_rs import ValidationError  # noqa: PLC0415

    try:
        validator = _build(schema, size_limit=max(SHARE_MIN, min(SHARE_MAX, PATTERN_BYTES // max(patterns, 1))))
    except ValidationError as error:
        raise SchemaRefused(
            [SchemaProblem(tuple(error.instance_path), f"no valid JSON Schema: {_said(error)}")]
        ) from None
    except (ValueError, RecursionError) as error:
        raise SchemaRefused([SchemaProblem((), str(error))]) from None
    cost = _Cost(schema)
    return JsonSchema(source=schema, _validator=validator, _cost=cost)


def stored_schema(schema: Mapping[str, Any]) -> JsonSchema:
    """A schema that was published by earlier rules: what can't be applied any more is left out, and said."""
    left_out = [problem for problem, _ in _reference_problems(schema)]
    usable: Any = schema
    if left_out:
        usable = copy.deepcopy(schema)
        for _, node in _reference_problems(usable):
            for name in ("$ref", "$dynamicRef"):
                node.pop(name, None)
    try:
        validator = _build(usable)
    except (ValueError, RecursionError) as error:
        validator = None
        left_out.append(SchemaProblem(tuple(getattr(error, "instance_path", ())), _said(error)))
    return JsonSchema(source=schema, left_out=tuple(left_out), _validator=validator, _cost=_Cost(usable))


def _build(schema: Any, size_limit: int = SHARE_MAX) -> Any:
    """Raises ValidationError, ValueError or RecursionError. `size_limit`: bytes that each pattern may take."""
    import jsonschema_rs  # noqa: PLC0415

    options: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions = jsonschema_rs.RegexOptions(
        size_limit=size_limit
    )
    if any(_LOOK_AROUND.search(pattern) for pattern in _patterns(schema)):
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=size_limit)
    return jsonschema_rs.Draft202012Validator(schema, offline=True, pattern_options=options)


def _patterns(schema: Any) -> Iterator[str]:
    for _, node in _nodes(schema):
        if isinstance(node, dict):
            yield from (node[keyword] for keyword in ("pattern",) if isinstance(node.get(keyword), str))
            named = node.get("patternProperties")
            yield from (named if isinstance(named, dict) else ())


def _said(error: Exception) -> str:
    return str(getattr(error, "message", error))[:MAX_MESSAGE]


def _characters(value: Any) -> int:
    """About as many as the value's JSON has."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        return 2 + sum(len(key) + 3 + _characters(item) for key, item in value.items())
    return 2 + sum(map(_characters, value)) if isinstance(value, list) else 4


# --- the schema itself --------------------------------------------------------------------------------------------


def _nodes(schema: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every object and list of a schema with its path, but for plain values (enum, const, …); without recursion."""
    open_: list[tuple[tuple[str | int, ...], Any, bool]] = [((), schema, False)]
    while open_:
        path, node, is_map = open_.pop()
        yield path, node
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, item in items:
            if isinstance(item, dict | list) and (is_map or key not in _PLAIN):
                open_.append(((*path, key), item, not is_map and key in _MAPS))


def _shape_problems(schema: Any) -> Iterator[SchemaProblem]:
    for count, (path, _) in enumerate(_nodes(schema)):
        if len(path) > MAX_DEPTH:
            yield SchemaProblem(path[:6], f"nested more than {MAX_DEPTH} levels deep")
            return
        if count >= MAX_NODES:
            yield SchemaProblem((), f"more than {MAX_NODES:,} objects and lists")
            return


def _reference_problems(schema: Any) -> Iterator[tuple[SchemaProblem, dict[str, Any]]]:
    """References that lead out of the schema, or nowhere; each with the node that holds it."""
    names = _Names(schema)
    for path, node in _nodes(schema):
        if not isinstance(node, dict):
            continue
        for keyword in ("$ref", "$dynamicRef"):
            reference = node.get(keyword)
            if isinstance(reference, str) and not names.is_known(reference):
                inside = reference.startswith("#")
                reason = (
                    f"{reference!r} leads nowhere in this schema"
                    if inside
                    else f"{reference[:100]!r} is another document; a schema resolves within itself: use $defs"
                )
                yield SchemaProblem((*path, keyword), reason), node


class _Names:
    """What references of a schema may name."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._anchors: dict[str, Any] = {}
        ids: dict[str, Any] = {}
        for _, node in _nodes(schema):
            if isinstance(node, dict):
                for keyword in ("$anchor", "$dynamicAnchor"):
                    if isinstance(node.get(keyword), str):
                        self._anchors[node[keyword]] = node
                if isinstance(node.get("$id"), str):
                    ids[node["$id"]] = node
        self._ids: dict[str, Any] = {}  # by the last part of their address
        for id_, node in ids.items():
            self._ids.setdefault(id_.rsplit("/", 1)[-1], node)

    def is_known(self, reference: str) -> bool:
        return self.target(reference) is not None or bool(METASCHEMAS.match(reference))

    def target(self, reference: str) -> Any:
        """The schema that a reference names; None where it is none of this document."""
        document, _, fragment = reference.partition("#")
        root = self._schema
        if document:
            root = self._ids.get(document.rsplit("/", 1)[-1])
            if root is None:
                return None
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(unquote(fragment))
        for part in fragment.split("/")[1:]:
            key: Any = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(root, list) and key.isdecimal() and len(key) < 9 and int(key) < len(root):
                root = root[int(key)]
            elif isinstance(root, dict) and key in root:
                root = root[key]
            else:
                return None
        return root if isinstance(root, dict | bool) else None


class _Cost:
    """How many evaluations a schema asks for."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._names = _Names(schema)
        self._own: dict[int, float] = {}
        self.unfolded = self._unfold(schema, {}, frozenset())
        """All subschemas, references written out; infinite for a schema that contains itself."""

    def is_bounded(self, value: Any) -> bool:
        size = _characters(value) / 8
        if self.unfolded * size <= MAX_EVALUATIONS:
            return True
        try:
            return _Count(self).of(self._schema, value) <= MAX_EVALUATIONS
        except (_TooMany, RecursionError):
            return False

    def own(self, node: Any) -> float:
        """What a node costs without its subschemas: a value is compared with one alternative of `enum` after another,
        unless all are texts."""
        if id(node) not in self._own:
            listed = node.get("enum")
            listed = [] if not isinstance(listed, list) or all(isinstance(each, str) for each in listed) else listed
            compared = sum(map(_characters, [*listed, *([node["const"]] if "const" in node else [])]))
            self._own[id(node)] = 1 + compared / 8
        return self._own[id(node)]

    def beside(self, node: Any) -> float:
        """How often the subschemas that apply to the same value are looked at."""
        return UNEVALUATED if "unevaluatedProperties" in node or "unevaluatedItems" in node else 1.0

    def in_place(self, node: Any) -> Iterator[Any]:
        """The subschemas that apply to the same value."""
        for keyword in _IN_PLACE_LISTS:
            yield from node.get(keyword, ()) if isinstance(node.get(keyword), list) else ()
        yield from (node[keyword] for keyword in _IN_PLACE if keyword in node)
        for keyword in _IN_PLACE_MAPS:
            found = node.get(keyword)
            yield from (each for each in found.values() if isinstance(each, dict)) if isinstance(found, dict) else ()
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(node.get(keyword), str):
                yield self._names.target(node[keyword])

    def of_items(self, node: Any, among: Any = None) -> Iterator[tuple[str | int | None, Any]]:
        """The subschemas that apply to parts of the value, with the part's name where it has one.

        `among`: the value; properties that it does not have may be left out.
        """
        properties = node.get("properties")
        if isinstance(properties, dict):
            names = properties if among is None or len(among) > len(properties) else among
            yield from ((name, properties[name]) for name in names if name in properties)
        if isinstance(node.get("patternProperties"), dict):
            yield from ((None, each) for each in node["patternProperties"].values())
        if isinstance(node.get("prefixItems"), list):
            yield from enumerate(node["prefixItems"])
        yield from ((None, node[keyword]) for keyword in _OF_VALUES if keyword in node)

    def _unfold(self, node: Any, known: dict[int, float], above: frozenset[int]) -> float:
        if not isinstance(node, dict):
            return 1
        if id(node) in above or len(above) > 300:
            return math.inf
        if id(node) not in known:
            inner = above | {id(node)}
            beside = sum(self._unfold(part, known, inner) for part in self.in_place(node))
            below = sum(self._unfold(part, known, inner) for _, part in self.of_items(node))
            known[id(node)] = self.own(node) + self.beside(node) * beside + below
        return known[id(node)]


class _TooMany(Exception):
    pass


class _Count:
    """Counts the evaluations of one value, visiting each pair of subschema and value once."""

    def __init__(self, cost: _Cost) -> None:
        self._cost = cost
        self._known: dict[tuple[int, int], float] = {}
        self._steps = 0

    def of(self, node: Any, value: Any) -> float:
        """Raises _TooMany."""
        self._steps += 1
        if self._steps > MAX_EVALUATIONS:
            raise _TooMany
        if not isinstance(node, dict):
            return 1
        pair = (id(node), id(value))
        if pair in self._known:
            return self._known[pair]
        if len(self._known) > MAX_VISITS:
            raise _TooMany
        self._known[pair] = 1  # a reference to itself at the same value is followed once
        total = self._cost.own(node) + (len(value) / 64 if isinstance(value, str) else 0)
        total += self._cost.beside(node) * sum(self.of(part, value) for part in self._cost.in_place(node))
        if isinstance(value, dict | list):
            for name, part in self._cost.of_items(node, among=value if isinstance(value, dict) else ()):
                total += self._of_parts(name, part, value)
        self._known[pair] = total
        return total

    def _of_parts(self, name: str | int | None, part: Any, value: Any) -> float:
        if isinstance(value, dict):
            if name is None:
                return sum(self.of(part, item) for item in value.values())
            return self.of(part, value[name]) if name in value else 0
        if name is None:
            return sum(self.of(part, item) for item in value)
        return self.of(part, value[name]) if isinstance(name, int) and name < len(value) else 0
