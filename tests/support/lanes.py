"""Which tests stay together in a lane: those of a file whose fixtures are made once for all of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent.parent
_SHARED = re.compile(r'^@pytest\.fixture\(scope="module"[^)]*\)\ndef (\w+)', re.MULTILINE)
_IMPORTED = re.compile(r"^from (tests\.[\w.]+) import", re.MULTILINE)


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@cache
def stays_together(path: str) -> bool:
    """Whether the file uses fixtures of a module: its own, of a conftest.py above it, or of tests that it imports from.

    Taken apart, each lane would make them again: an installation that is started, a site with one of everything.
    """
    file = ROOT / path
    text = _text(file)
    if _SHARED.search(text):
        return True
    folders = [each for each in file.parents if each.is_relative_to(ROOT / "tests")]
    elsewhere = [each / "conftest.py" for each in folders]
    elsewhere += [ROOT / f"{name.replace('.', '/')}.py" for name in _IMPORTED.findall(text)]
    names = [name for each in elsewhere for name in _SHARED.findall(_text(each))]
    return any(re.search(rf"\b{name}\b", text) for name in names)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Lanes take the next file that stays together, or the next single test, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if stays_together(path) else nodeid


def make_scheduler(config: pytest.Config, log: object) -> Lanes:
    """What pytest-xdist is to distribute the tests with."""
    config.option.loadscopereorder = False
    return Lanes(config, log)  # type: ignore[arg-type]
