"""Addresses beside the dashboard that its pages link to."""

from __future__ import annotations

from django.http import HttpRequest

from workflows.this_process.configuration import configuration


def flower(request: HttpRequest) -> dict[str, str]:
    """Where Flower is, for the navigation; empty where the installation has none."""
    return {"flower_url": configuration().flower_url}
