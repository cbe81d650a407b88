"""Flower shows every queue of Headrace, those too that no worker consumes now: there messages pile up.

By itself it knows the queues of the workers that it has seen, and where it has seen none the default one.
"""

from __future__ import annotations

from typing import Any

from flower.views import BaseHandler  # type: ignore[import-untyped]


def install() -> None:
    """Add Headrace's queues to those that Flower has found."""
    original = BaseHandler.get_active_queue_names

    def all_queue_names(self: Any) -> list[str]:
        from workflows.steps.registry import QUEUES  # noqa: PLC0415  (needs configured settings)

        return sorted({*original(self), *QUEUES, self.capp.conf.task_default_queue})

    BaseHandler.get_active_queue_names = all_queue_names
