"""`manage.py statements`: the typed functions of the SQL files."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from devtools import statements


class Command(BaseCommand):
    help = "Write the typed Python functions of the engine's SQL files, from their headers."

    def handle(self, **_: Any) -> None:
        for path, text in statements.modules().items():
            path.write_text(text, encoding="utf-8")
