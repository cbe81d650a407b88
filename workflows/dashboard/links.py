"""Addresses beside the dashboard that its pages link to."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def flower(request: HttpRequest) -> dict[str, str]:
    """Where Flower is, for the navigation; empty where the installation has none."""
    return {"flower_url": settings.FLOWER_URL}
