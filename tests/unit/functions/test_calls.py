"""What is remembered of calls is bounded, by number and by size."""

from __future__ import annotations

from workflows.functions import calls


def test_a_configuration_is_remembered_only_where_it_is_small() -> None:
    known = calls._plain_config
    known.cache_clear()
    small = [calls.typed_call("a", "wait_for_event", {"event": "shop/paid", "timeout": "1h"}) for _ in range(2)]
    assert small[0].config is small[1].config
    before = known.cache_info().currsize
    large = {"event": "shop/paid", "timeout": "1h", "if": "event.data.name == '" + "x" * calls.MOST_REMEMBERED + "'"}
    assert calls.typed_call("a", "wait_for_event", large).config is not None
    assert known.cache_info().currsize == before == 1
