"""Code in documents, taken from the files that are run: a comment says from where, and the block below it is filled in.

    <!-- from examples/python/signup.py: on_user_signup -->
    ```python
    …
    ```

After the file stand the names at its top level, separated by commas; without names it is all of the file. Docstrings
and remarks to tools are left out. `manage.py excerpts` fills the blocks in; a test says when one is out of date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from config.env import BASE_DIR

_REMARK = re.compile(r"  # (?:noqa|fmt|type): .*$", re.MULTILINE)
_BLOCK = re.compile(r"^<!-- from (\S+?)(?:: ([\w, ]+))? -->\n```(\w*)\n(?:.*?\n)??```$", re.MULTILINE | re.DOTALL)


class NoExcerpt(ValueError):
    """A document asks for code that is not there."""


def pages() -> list[Path]:
    """The documents that hold excerpts."""
    return [page for page in sorted((BASE_DIR / "docs").rglob("*.md")) if _BLOCK.search(page.read_text("utf-8"))]


def filled_in(text: str) -> str:
    """The text with its blocks as the files are now. Raises NoExcerpt."""

    def block(match: re.Match[str]) -> str:
        file, names, language = match[1], match[2], match[3]
        head = match[0].partition("\n")[0]
        return f"{head}\n```{language}\n{_excerpt(file, names)}\n```"

    return _BLOCK.sub(block, text)


def _excerpt(file: str, names: str | None) -> str:
    path = BASE_DIR / file
    if not path.is_file():
        raise NoExcerpt(f"There is no file {file}.")
    source = path.read_text("utf-8")
    if names is None:
        return source.strip("\n")
    parts = dict(_parts(source))
    wanted = [name.strip() for name in names.split(",")]
    if missing := [name for name in wanted if name not in parts]:
        raise NoExcerpt(f"{file} has no {', '.join(missing)} at its top level.")
    return _REMARK.sub("", "\n\n\n".join(parts[name] for name in wanted))


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """The functions, classes and values of a module, each with its text without docstrings."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            left_out = set(_docstring_lines(node))
            left_out |= {n + 1 for n in left_out if not lines[n].strip()}
            kept = [lines[n - 1] for n in range(first, (node.end_lineno or 0) + 1) if n not in left_out]
            yield node.name, "\n".join(kept)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, "\n".join(lines[node.lineno - 1 : node.end_lineno])


def _docstring_lines(node: ast.AST) -> Iterator[int]:
    for each in ast.walk(node):
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or len(each.body) == 1:
            continue  # a body of a docstring alone would be none without it
        first = each.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)
