"""The house rules that a reader relies on: no circles of modules, small rooms, small files, short functions."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("config", "devtools", "dlq", "headrace", "throttling", "workflows")
MAX_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_LINE_LENGTH = 120
MAX_FILES = 15
MAX_TOP_FILES = 7
LONG_FILES: dict[str, str] = {}
"""Files over the limit, with the reason."""
LONG_FUNCTIONS: dict[str, str] = {}
"""Functions over the limit (`path:name`), with the reason."""


def tracked(*patterns: str) -> list[Path]:
    found = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        Path(line) for line in found.splitlines() if "migrations" not in Path(line).parts and (ROOT / line).exists()
    ]


def modules() -> dict[str, Path]:
    found = {}
    for path in tracked(*(f"{package}/*.py" for package in PACKAGES)):
        parts = path.with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules that a file imports, those in functions included; not those for the type checker only."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    left_out = {id(each) for node in for_types for each in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in arrows.get(module, ()):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in arrows:
        if module not in order:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    arrows = {
        module: {to for to in imports(path, known) if to in known and to != module} for module, path in known.items()
    }
    assert sum(map(len, arrows.values())) > 500
    assert circles(arrows) == []


def test_the_top_of_workflows_is_small() -> None:
    assert len(tracked(":(glob)workflows/*.py")) <= MAX_TOP_FILES


def test_no_room_has_too_many_files() -> None:
    of_code = [path for path in tracked("*.py", "*.sql", "*.lua") if path.name != "__init__.py"]
    rooms = Counter(str(path.parent) for path in of_code)
    assert {room: count for room, count in rooms.items() if count > MAX_FILES} == {}


def test_no_file_is_too_long() -> None:
    lines = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in tracked("*.py")}
    assert {path for path, count in lines.items() if count > MAX_LINES} == LONG_FILES.keys()


def test_no_line_of_sql_or_lua_is_long() -> None:
    """Ruff holds Python to the same length."""
    long = [
        f"{path}:{number}"
        for path in tracked("*.sql", "*.lua")
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MAX_LINE_LENGTH
    ]
    assert not long


@pytest.mark.parametrize("package", [*PACKAGES, "bench", "scripts", "tests"])
def test_no_function_is_too_long(package: str) -> None:
    long = set()
    for path in tracked(f"{package}/*.py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.add(f"{path}:{node.name}")
    assert long == {name for name in LONG_FUNCTIONS if name.startswith(f"{package}/")}
