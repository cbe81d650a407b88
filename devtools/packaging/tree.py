"""The package `headrace` as the wheel has it, made from the repository's folders."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from devtools.packaging.rewriting import APPS, PACKAGE, defined, moved

LEFT_OUT = frozenset({
    "workflows/management/commands/reference.py", "workflows/management/reference_api.py",
    "workflows/management/reference_forms.py", "workflows/management/reference_functions.py",
    "workflows/management/reference_pages.py",
    "workflows/admin/others.py", "workflows/admin/periodic.py",
    "templates/admin/djcelery/change_periodictask_form.html",
})  # fmt: skip
"""What writes the documentation of the repository, and the pages of other apps that its project looks after."""
OUTSIDE = frozenset({*APPS, "config", "devtools", "tests"})
LEFT_OUT_SUFFIXES = frozenset({".pyc", ".pyo"})


class Leftover(AssertionError):
    """A module of the package still imports something that is not in it."""


def make(root: Path, target: Path) -> list[Path]:
    """Write the package into `target` (what is there goes); the paths of its files within it.

    Raises CannotMove or Leftover for what can't be in a package.
    """
    shutil.rmtree(target, ignore_errors=True)
    names = names_of(root)
    written = []
    for app in (*APPS, PACKAGE):
        for path in _files(root, app):
            inside = Path(*path.parts[1:]) if app == PACKAGE else path
            written.append(_write(root, path, target / inside, names))
    others = [path for folder in ("templates", "static") for path in _files(root, folder)]
    written += [_copy(root / path, target / path) for path in others]
    _look_at(target)
    return sorted(path.relative_to(target) for path in written)


def names_of(root: Path) -> dict[str, frozenset[str]]:
    """All modules of the apps, each with the names that it defines."""
    return {_module(path): defined((root / path).read_text(encoding="utf-8")) for path in _python(root)}


def _files(root: Path, folder: str) -> list[Path]:
    found = (path.relative_to(root) for path in (root / folder).rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if path.suffix not in LEFT_OUT_SUFFIXES and "__pycache__" not in path.parts and str(path) not in LEFT_OUT
    )


def _python(root: Path) -> list[Path]:
    return [path for app in APPS for path in _files(root, app) if path.suffix == ".py"]


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _write(root: Path, path: Path, target: Path, names: dict[str, frozenset[str]]) -> Path:
    if path.suffix != ".py":
        return _copy(root / path, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(moved((root / path).read_text(encoding="utf-8"), names, path.as_posix()), encoding="utf-8")
    return target


def _copy(path: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return target


def _look_at(package: Path) -> None:
    """Every module can be compiled, and imports nothing of ours by a name of the repository."""
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for name in _imported(tree):
            if name.partition(".")[0] in OUTSIDE:
                raise Leftover(f"{path.relative_to(package)} imports {name}")


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
