"""The digest of a flow's code: whether two processes have the same.

It covers the function, and what it refers to by name in its own module, and so on from there: functions, classes and
constants, as their syntax trees without docstrings, comments and line numbers. It does not cover other modules: what a
step calls there may change without notice; the order of the steps is checked against the journal in any case.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any


def of(function: Callable[..., Any]) -> str:
    """The digest, as 64 hexadecimal digits."""
    tree = _module_tree(function)
    if tree is None:
        return hashlib.sha256(_fallback(function)).hexdigest()
    named = _definitions(tree)
    parts: dict[str, str] = {}
    open_names = [function.__qualname__.split(".")[0]]
    while open_names:
        name = open_names.pop()
        if name in parts or name not in named:
            continue
        parts[name] = "\n".join(_dump(node) for node in named[name])
        for node in named[name]:
            open_names += [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
    text = "\n".join(f"{name}={parts[name]}" for name in sorted(parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _module_tree(function: Callable[..., Any]) -> ast.Module | None:
    module = sys.modules.get(function.__module__)
    try:
        return ast.parse(inspect.getsource(module)) if module is not None else None
    except (OSError, TypeError, SyntaxError):
        return None


def _fallback(function: Callable[..., Any]) -> bytes:
    """Where there is no source: the source of the function alone, else its bytecode."""
    try:
        return _dump(ast.parse(textwrap.dedent(inspect.getsource(function)))).encode()
    except (OSError, TypeError, SyntaxError):
        code = getattr(function, "__code__", None)
        return code.co_code + repr(code.co_consts).encode() if code is not None else repr(function).encode()


def _definitions(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """The statements of a module that give a name its value."""
    found: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


class _WithoutDocstrings(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> Any:
        self.generic_visit(node)
        body = getattr(node, "body", None)
        is_scope = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
        first = body[0] if is_scope and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _dump(node: ast.AST) -> str:
    return ast.dump(_WithoutDocstrings().visit(node), include_attributes=False)
