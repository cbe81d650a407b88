"""What the bench takes out to see what the looks at the encryption of payloads cost: all of it, and it comes back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from workflows.engine.state import sealed
from workflows.models import Event

FILE = Path(__file__).parents[3] / "bench" / "handlers" / "bench_no_sealing.py"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("BENCH_NO_SEALING", raising=False)
    spec = importlib.util.spec_from_file_location("bench_no_sealing", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _places(looks: Any) -> dict[tuple[str, str], Any]:
    """What stands where, in all modules: by its name, where it is one of those that are taken out."""
    functions = {id(getattr(owner, name)) for owner, name, _ in looks.LOOKS}
    return {
        (key, name): value
        for key, module in list(sys.modules.items())
        if key.partition(".")[0] in {"workflows", "dlq"}
        for name, value in vars(module).items()
        if id(value) in functions
    }


def test_what_is_taken_out_is_gone_everywhere_and_comes_back(looks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _places(looks)
    assert ("workflows.payload", "check_open") in before, "under the name of whoever has imported it, too"
    field = Event._meta.get_field("data")
    with looks.taken_out():
        still = {place for place, value in before.items() if getattr(sys.modules[place[0]], place[1]) is value}
        assert still == set()
        assert sealed.value('{"$enc": 1}', None) == '{"$enc": 1}'  # type: ignore[arg-type]
        assert field.pre_save(Event(data={"$enc": 1}), add=True) == {"$enc": 1}
    assert _places(looks) == before
