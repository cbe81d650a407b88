"""State of a module is state that nobody handed over: it survives a fork, and a test can't give another.

What a process has for itself belongs into `workflows.this_process`. What may stay in a module is listed here with its
reason; anything else that a module keeps, and that can change after its import, fails this test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.unit.house.test_structure import ROOT, modules, tracked

ALLOWED = {
    # the one place
    "workflows.this_process._parts": "all that a process has for itself; a fork begins with a new one",
    "workflows.this_process global _parts": "set by the hook that runs in a forked child",
    # tables that are filled while the application starts, and read from then on
    "workflows.edge.redaction.RUNS_OF": "rows that are about runs: each app adds its own when it is ready",
    "workflows.engine.retention.ages.TABLES": "the tables whose rows age, of each app from one table each",
    "workflows.steps.registry.REGISTRY": "the step types: each registers itself when its module is imported",
    "workflows.engine.maintenance.periodic_jobs.JOBS": "the jobs of each app, from the table in its `apps.py`",
    "workflows.services.bulk.ACTIONS": "the actions of each app, from one table each",
    "workflows.dashboard.navigation.REGISTERED": "the links of each app, from one table each",
    "workflows.dashboard.control.objects.REGISTERED": "the pages of each app's objects, from one table each",
    "workflows.services.system_events.SOURCES": "the system events of each app, from one table each",
    "workflows.steps.tools.TOOLS": "what step types ask of the layers above, put in once by `apps.py`",
    "workflows.functions.flows._REGISTRY": "the flows in Python: each registers itself when its module is imported",
    "config.api.api.docs": "the page of the documentation, set at import",
    # of a thread or a context
    "workflows.functions.visits._performing": "a context variable: each task and each thread has its own",
    "workflows.functions.driving.async_driver._last_end_at": "a context variable: each task has its own",
    "workflows.functions.driving.tasks._of_code": "a context variable: each visit has its own",
    "workflows.functions.driving.async_driver._passed": "a context variable: each task has its own",
    "workflows.engine.state.database._local": "the connection of each thread; one from before a fork is known by its pid",
    "workflows.services.access.changes._told": "a context variable: each request, command and thread has its own",
    "workflows.engine.pipeline.dispatcher._somebody_waits": "a context variable: each request and each thread has its own",
    # memories of functions that always answer the same
    "throttling.scripts.files()": "the texts of files",
    "workflows.engine.state.database._files()": "the texts of files",
    "workflows.engine.state.database.statement()": "the text of a file",
    "workflows.engine.state.database.numbered()": "the same, in another form",
    "throttling.scripts.script()": "the text of a file",
    "throttling.environment.global_policy()": "from the environment, which does not change",
    "throttling.environment.global_run_policy()": "from the environment and its argument",
    "throttling.names._parsed()": "the parts of a name",
    "throttling.names.queue_instance()": "the name of a queue's limit",
    "workflows.definitions.triggers._zones()": "the names of all time zones",
    "workflows.expressions.functions._pattern()": "a compiled pattern",
    "workflows.steps.http.client._tls()": "the certificates that are trusted; it keeps no session",
    "workflows.steps.masking._written()": "the ways in which a text is written; bounded",
    "workflows.functions.calls._checked_options()": "the options of a step, which cannot be changed; bounded",
    "workflows.functions.calls._plain_options()": "the options of a step that gives none",
    "workflows.functions.calls._simple_options()": "the same, by plain values; bounded",
    "workflows.functions.calls._plain_config()": "a configuration of plain values, which is frozen; bounded",
    "workflows.functions.calls._text_ms()": "a duration in milliseconds; bounded",
    "workflows.functions.calls._annotated_model()": "what a function says it returns; bounded",
    "workflows.functions.calls.check_name()": "a name that was checked; bounded",
    # before there is an application
    "devtools.embedded global _current": "the lock on the embedded services, taken once and held until the process ends",
    "devtools.embedded.shared.CHILDREN": "the services that this process has started, for its exit",
}
"""`module.NAME`, `module global NAME`, or `module.function()` for a function with a memory; and why it may stay."""

HARMLESS = {
    "structlog.get_logger": "loggers", "logging.getLogger": "loggers", "Lines": "two loggers",
    "Router": "addresses are added by decorators at import", "Library": "tags are added by decorators at import",
    "make_api": "routers are added at import", "Celery": "the application of Celery, set up at import",
    "Front": "the application of the server: its threads begin with its first request",
    "Signal": "receivers are connected by `apps.py`", "JSONRenderer": "it keeps nothing",
    "mounted": "addresses, made at import", "HttpRequest": "a request that nobody has made",
    "env.read": "the environment, in a frozen object", "braked": "a view", "ExpressionWrapper": "a part of a query",
    "TypeVar": "a type", "get_args": "a tuple of types", "object": "a mark without attributes",
    "whole_number": "a number from the environment", "step_lease_s": "a number from the environment",
}  # fmt: skip
"""Makers of values that modules keep although they are objects, and what they are."""

CONSTANT = {
    "bytes", "frozenset", "int", "max", "min", "range", "tuple", "datetime", "timedelta", "UUID", "re.compile", "IPv4Network",
    "IPv6Network", "read_text", "with_name",
}  # fmt: skip
"""Makers of values that can't be changed."""

SET_FROM_OUTSIDE = {
    "tests/support/probes.py: vital.start": "in a worker of its own, which a thread that panics ends",
}
"""`path: module.NAME` of what is set where it does not belong; and why."""

CHANGING = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem", "remove",
    "reverse", "setdefault", "sort", "update",
})  # fmt: skip
"""Methods that change a dict, a list or a set."""
MEMORIES = {"cache", "functools.cache", "lru_cache", "functools.lru_cache"}


def trees() -> dict[str, ast.Module]:
    return {name: ast.parse((ROOT / path).read_text(encoding="utf-8")) for name, path in modules().items()}


def frozen(found: dict[str, ast.Module]) -> set[str]:
    """The names of classes whose objects can't be changed: frozen dataclasses, named tuples, enums."""
    names = set()
    for tree in found.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                said = " ".join(ast.unparse(each) for each in (*node.decorator_list, *node.bases))
                if "frozen=True" in said or "NamedTuple" in said or "Enum" in said:
                    names.add(node.name)
    return names


def at_the_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import; those within `if`, `for`, `with` and `try` too."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from at_the_top(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from at_the_top(handler.body)


def kept(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that a module gives to values at import."""
    for node in at_the_top(tree.body):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=True)
                    yield from ((ast.unparse(name), value) for name, value in pairs)
                else:
                    yield ast.unparse(target), node.value


def changed(found: dict[str, ast.Module]) -> set[str]:
    """The last names of dicts, lists and sets that some line changes."""
    names = set()
    for tree in found.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                names.add(last_name(node.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
                names.add(last_name(node.func.value))
            elif isinstance(node, ast.AugAssign):
                names.add(last_name(node.target))
    return names


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def state(value: ast.expr, name: str, frozen_: set[str], changed_: set[str]) -> bool:
    """Whether a value can change after the import."""
    match value:
        case ast.Dict() | ast.List() | ast.Set() | ast.DictComp() | ast.ListComp() | ast.SetComp():
            return name in changed_
        case ast.Call():
            maker = ast.unparse(value.func)
            names = {maker, maker.rpartition(".")[2], maker.partition(".")[0]}
            return names.isdisjoint({*CONSTANT, *HARMLESS, *frozen_})
        case ast.Tuple():
            return any(state(each, name, frozen_, changed_) for each in value.elts)
        case ast.IfExp():
            return any(state(each, name, frozen_, changed_) for each in (value.body, value.orelse))
    return False


def hidden_state(found: dict[str, ast.Module]) -> set[str]:
    """What modules keep that may change, named as in `ALLOWED`."""
    frozen_, changed_ = frozen(found), changed(found)
    hidden = set()
    for module, tree in found.items():
        hidden |= {f"{module}.{name}" for name, value in kept(tree) if state(value, name, frozen_, changed_)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                hidden |= {f"{module} global {name}" for name in node.names}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                decorators = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
                hidden |= {f"{module}.{node.name}()"} if decorators & MEMORIES else set()
    return hidden


def set_from_outside(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The attributes of modules of ours that a file assigns to."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in known
    }
    return {
        f"{path}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
        if isinstance(node.value, ast.Name) and node.value.id in ours
    }


def test_no_module_keeps_what_may_change() -> None:
    assert hidden_state(trees()) == ALLOWED.keys()


def test_nobody_sets_what_belongs_to_a_module() -> None:
    known = modules()
    assert set[str]().union(*(set_from_outside(path, known) for path in tracked("*.py"))) == SET_FROM_OUTSIDE.keys()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("SENDER = Sender()", {"m.SENDER"}),
        ("A, B = 1, Sender()", {"m.B"}),
        ("if x:\n    SENDER: Sender | None = Sender()", {"m.SENDER"}),
        ("SENDER = None\ndef start():\n    global SENDER\n    SENDER = Sender()", {"m global SENDER"}),
        ("TABLE = {}\ndef add(name):\n    TABLE[name] = 1", {"m.TABLE"}),
        ("seen = []\ndef add(name):\n    seen.append(name)", {"m.seen"}),
        ("TABLE = {'a': 1}\ndef of(name):\n    return TABLE[name]", set()),
        ("@functools.lru_cache(maxsize=8)\ndef of(name):\n    return name", {"m.of()"}),
        ("_local = threading.local()", {"m._local"}),
        ("@dataclass(frozen=True)\nclass Policy:\n    x: int\nDEFAULT = Policy(x=1)", set()),
        ("P = re.compile('a')\nSOME = frozenset({'a'})\nlog = structlog.get_logger(__name__)", set()),
    ],
)
def test_state_is_found(text: str, hidden: set[str]) -> None:
    assert hidden_state({"m": ast.parse(text)}) == hidden
