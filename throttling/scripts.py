"""The texts of the Lua scripts that the store runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

LUA_DIR = Path(__file__).parent / "lua"
CORE = ("definitions", "windows", "shares", "permits", "waiting", "answer")


@cache
def files() -> dict[str, str]:
    """All scripts by their names, read at the first use of one: while a process runs, the files may become those of the
    next release."""
    return {path.stem: path.read_text("utf-8") for path in LUA_DIR.rglob("*.lua")}


@cache
def script(verb: str) -> str:
    """The text of a verb: the shared part and its own file."""
    head = f"local RESTORING = {'true' if verb == 'restore' else 'false'}\n"
    return head + "".join(files()[name] for name in (*CORE, verb))


def verbs() -> list[str]:
    """The scripts that are called, each by its name."""
    return [path.stem for path in LUA_DIR.glob("*.lua")]
