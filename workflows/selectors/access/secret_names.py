"""Which secrets the flows of an organization name: in templates, webhooks, and the code of flows in Python.

A version never changes, so its names are read once by each process. A flow in Python names secrets as it runs; what its
code says in plain words (`step.secret("NAME")`) is read, once as well, from the code that this process has.
"""

from __future__ import annotations

import ast
import inspect
import sys
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from django.db.models import TextField
from django.db.models.functions import Cast

from workflows import this_process
from workflows.errors import ExpressionError
from workflows.expressions import syntax
from workflows.expressions.nodes import Has, Literal, Name, Node, Path, children
from workflows.expressions.template import split
from workflows.models import Flow, FlowVersion, Organization, Trigger

ANY = "*"
"""Stands for a name that is computed as the flow runs: `secrets[input.region]`."""
SECRETS = "secrets"
MOST_VERSIONS = 20_000
MOST_FLOWS = 5_000
AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class NamedSecrets:
    """By name of a secret, the flows that use it.

    `computing`: flows that compute names; `unread`: flows in Python whose code this process does not have, or that
    compute names there.
    """

    flows: Mapping[str, list[str]]
    computing: list[str]
    unread: list[str]


class NamesOfVersions:
    """What this process has read of versions: the names of their secrets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[UUID, frozenset[str]] = LRUCache(MOST_VERSIONS)

    def of(self, ids: Collection[UUID]) -> dict[UUID, frozenset[str]]:
        """By version, the names that its definition has."""
        with self._lock:
            found = {each: self._kept[each] for each in ids if each in self._kept}
        missing = [each for each in ids if each not in found]
        for start in range(0, len(missing), AT_ONCE):
            found |= self._read(missing[start : start + AT_ONCE])
        return found

    def _read(self, ids: Collection[UUID]) -> dict[UUID, frozenset[str]]:
        rows = FlowVersion.objects.filter(id__in=ids).annotate(text=Cast("definition", TextField()))
        names = dict.fromkeys(ids, frozenset[str]())
        for id_, definition in rows.filter(text__contains=SECRETS).values_list("id", "definition"):
            names[id_] = frozenset(_in_json(definition))
        with self._lock:
            self._kept.update(names)
        return names


def named_secrets(organization: Organization) -> NamedSecrets:
    """The secrets that the flows in use name, as they are published now."""
    flows = list(
        Flow.objects.filter(organization=organization, archived_at=None, current__isnull=False)
        .order_by("slug")
        .values_list("id", "slug", "kind", "current_id")[:MOST_FLOWS]
    )
    names = this_process.own(NamesOfVersions).of([current for *_, current in flows])
    users: defaultdict[str, list[str]] = defaultdict(list)
    unread, computing = [], []
    of_triggers, of_code = (
        _of_triggers(organization),
        this_process.own(NamesInCode).of([each for *_, kind, each in flows if kind == Flow.Kind.CODE]),
    )
    for id_, slug, kind, current in flows:
        found = set(names.get(current, ())) | of_triggers.get(id_, set())
        if kind == Flow.Kind.CODE:
            in_code = of_code.get(current)
            unread += [slug] if in_code is None or ANY in in_code else []
            found |= (in_code or frozenset()) - {ANY}
        computing += [slug] if ANY in found else []
        for name in found - {ANY}:
            users[name].append(slug)
    return NamedSecrets(flows=dict(users), computing=computing, unread=unread)


def _of_triggers(organization: Organization) -> dict[UUID, set[str]]:
    """By flow, the secrets by which deliveries to its webhooks are signed."""
    found: defaultdict[UUID, set[str]] = defaultdict(set)
    rows = Trigger.objects.filter(organization=organization, kind=Trigger.Kind.WEBHOOK)
    for flow_id, config in rows.values_list("flow_id", "config"):
        if config.get("secret"):
            found[flow_id].add(config["secret"])
    return found


# --- definitions ----------------------------------------------------------------------------------------------------


def _in_json(value: Any) -> Iterator[str]:
    """The names in the templates of a definition."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _in_json(each)
    elif isinstance(value, list):
        for each in value:
            yield from _in_json(each)
    elif isinstance(value, str) and "${" in value and SECRETS in value:
        yield from names_in(value)


def names_in(text: str) -> Iterator[str]:
    """The secrets that a text names in `${ … }`; ANY for each that is computed. What is no template names none."""
    try:
        for is_literal, part in split(text):
            if not is_literal and SECRETS in part:
                yield from _in_node(syntax.parse(part).root)
    except (ExpressionError, RecursionError):
        return


def _in_node(node: Node) -> Iterator[str]:
    match node:
        case Path(root=Name(text="secrets"), parts=((is_field, part), *rest)):
            yield part if is_field else _literal(part)
            for is_name, each in rest:
                if not is_name:
                    yield from _in_node(each)
        case Has(operand=Name(text="secrets"), field=field):
            yield field
        case Name(text="secrets"):
            yield ANY
        case _:
            for each in children(node):
                yield from _in_node(each)


def _literal(node: Node) -> str:
    return node.value if isinstance(node, Literal) and isinstance(node.value, str) else ANY


# --- code -----------------------------------------------------------------------------------------------------------


class NamesInCode:
    """What this process has read of the code of versions: the names of their secrets, with the module that has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[UUID, tuple[ModuleType, frozenset[str]]] = LRUCache(MOST_VERSIONS)

    def of(self, versions: Collection[UUID]) -> dict[UUID, frozenset[str]]:
        """By version of a flow in Python, the names in its code; without those whose code this process has not."""
        with self._lock:
            kept = {each: self._kept[each] for each in versions if each in self._kept}
        found = {each: names for each, (module, names) in kept.items() if sys.modules.get(module.__name__) is module}
        missing = [each for each in versions if each not in found]
        return found | self._read(missing) if missing else found

    def _read(self, versions: Collection[UUID]) -> dict[UUID, frozenset[str]]:
        rows = FlowVersion.objects.filter(id__in=versions)
        trees: dict[str, ast.Module | None] = {}
        found: dict[UUID, frozenset[str]] = {}
        for id_, address in rows.values_list("id", "definition__steps__0__config__function"):
            module, _, function = str(address).partition(":")
            loaded = sys.modules.get(module)
            if module not in trees:
                trees[module] = _tree(loaded)
            tree = trees[module]
            if tree is None or loaded is None:
                continue
            found[id_] = frozenset(names_in_code(tree, function))
            with self._lock:
                self._kept[id_] = loaded, found[id_]
        return found


def _tree(loaded: ModuleType | None) -> ast.Module | None:
    try:
        return ast.parse(inspect.getsource(loaded)) if loaded is not None else None
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def names_in_code(tree: ast.Module, function: str) -> Iterator[str]:
    """The names that `….secret(…)` is called with in a function of a module, and in what that refers to there."""
    named = {
        each.name: each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    seen, open_names = set(), [function.split(".", maxsplit=1)[0]]
    while open_names:
        name = open_names.pop()
        if name in seen or name not in named:
            continue
        seen.add(name)
        for node in ast.walk(named[name]):
            if isinstance(node, ast.Name):
                open_names.append(node.id)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "secret":
                first = (*node.args, *(each.value for each in node.keywords if each.arg == "name"))[:1]
                yield from (
                    each.value if isinstance(each, ast.Constant) and isinstance(each.value, str) else ANY
                    for each in first
                )
