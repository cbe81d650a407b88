"""Names at the top of a module say the thing: no adverb, participle or pronoun by itself (STYLE)."""

from __future__ import annotations

import ast

import pytest

from tests.unit.house.test_structure import ROOT, modules

VAGUE = {"again", "asked", "each", "follow", "found", "given", "made", "note", "noted", "take", "taken", "told"}


@pytest.mark.parametrize("room", ["config", "devtools", "dlq", "headrace", "throttling", "workflows"])
def test_no_function_of_a_module_has_a_vague_name(room: str) -> None:
    vague = [
        f"{path}:{node.lineno} {node.name}"
        for name, path in modules().items()
        if name.split(".")[0] == room
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.name.strip("_").lower() in VAGUE
    ]
    assert not vague
