"""What changes in a file when it moves under `headrace.`: imports, and dotted names in strings that name modules.

Names are changed at the places where Python's own parser finds them. A string changes only where it is the name of a
module of ours, or of something that a module of ours defines; names of tasks, labels and keys of definitions stay.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

APPS = ("dlq", "throttling", "workflows")
PACKAGE = "headrace"
_DOTTED = re.compile(rf"(?:{'|'.join(APPS)})(?:\.\w+)*")
_LOGGERS = frozenset({"get_logger", "getLogger"})


class CannotMove(ValueError):
    """A line that means something else under another package; the message says how to write it."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Text to put in the place of what stands between two columns of a line (in bytes; the line counts from 1)."""

    line: int
    start: int
    end: int
    text: str


def moved(source: str, names: Mapping[str, frozenset[str]], path: str = "") -> str:
    """A module's text under `headrace.`. `names` are all modules of the apps, each with the names that it defines.

    Raises CannotMove for `import workflows.x` without `as`, which binds another name then.
    """
    tree = ast.parse(source)
    migrates = "/migrations/" in path
    lines = source.encode().splitlines(keepends=True)
    of_top = path.startswith(f"{PACKAGE}/")
    changes = [*_imports(tree, lines, path), *_strings(tree, names, of_top), *(_replaced(tree) if migrates else ())]
    for change in sorted(changes, key=lambda each: (each.line, each.start), reverse=True):
        line = lines[change.line - 1]
        lines[change.line - 1] = line[: change.start] + change.text.encode() + line[change.end :]
    return b"".join(lines).decode()


def defined(source: str) -> frozenset[str]:
    """The names that a module defines at its top."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return frozenset(found)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in APPS


def _imports(tree: ast.AST, lines: list[bytes], path: str) -> Iterator[Change]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and _is_ours(node.module):
            at = _column_of_module(node, lines)
            yield Change(line=node.lineno, start=at, end=at, text=f"{PACKAGE}.")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == PACKAGE:
            moved = [alias.name for alias in node.names if alias.name in APPS]
            if moved:
                raise CannotMove(f"{path}:{node.lineno}: import {', '.join(moved)} by its own name")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if not _is_ours(alias.name):
                    continue
                if alias.asname is None:
                    raise CannotMove(f"{path}:{node.lineno}: write `from … import …` instead of `import {alias.name}`")
                yield Change(line=alias.lineno, start=alias.col_offset, end=alias.col_offset, text=f"{PACKAGE}.")


def _column_of_module(node: ast.ImportFrom, lines: list[bytes]) -> int:
    found = re.compile(rb"from\s+(?=\w)").match(lines[node.lineno - 1], node.col_offset)
    if found is None:  # a backslash between the two words
        raise CannotMove(f"line {node.lineno}: write `from` and the module's name in one line")
    return found.end()


def _strings(tree: ast.AST, names: Mapping[str, frozenset[str]], of_top: bool) -> Iterator[Change]:
    """`of_top`: the file is one of the package's own, which name modules only (also some that come later)."""
    loggers = {
        id(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and _called(node.func) in _LOGGERS
    }
    inside_f_strings = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
    }
    app_names = {
        id(node.value)
        for config in ast.walk(tree)
        if isinstance(config, ast.ClassDef) and any("AppConfig" in ast.unparse(base) for base in config.bases)
        for node in config.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name"
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in inside_f_strings:
            continue
        if not _DOTTED.fullmatch(node.value):
            continue
        if id(node) in loggers | app_names or ("." in node.value and (of_top or _names_something(node.value, names))):
            quote = 1  # of a plain string: ours are never raw, bytes or of three quotes
            yield Change(
                line=node.lineno, start=node.col_offset + quote, end=node.col_offset + quote, text=f"{PACKAGE}."
            )


def _called(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _names_something(dotted: str, names: Mapping[str, frozenset[str]]) -> bool:
    module, _, name = dotted.rpartition(".")
    return dotted in names or name in names.get(module, frozenset())


def _replaced(tree: ast.AST) -> Iterator[Change]:
    """Takes `replaces` away: an app called `workflows` whose 0001_initial is applied is another's there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "replaces":
            if node.lineno != node.end_lineno or node.end_col_offset is None:
                raise CannotMove(f"line {node.lineno}: write `replaces` in one line")
            yield Change(line=node.lineno, start=node.col_offset, end=node.end_col_offset, text="replaces = []")
