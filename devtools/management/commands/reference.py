"""`reference`: write the reference pages that come from the code (docs/reference/)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from workflows.management.reference_pages import PAGES


class Command(BaseCommand):
    help = "Write docs/reference from the code; with --check, say which pages differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        target = Path(settings.BASE_DIR) / "docs" / "reference"
        target.mkdir(parents=True, exist_ok=True)
        different = []
        for name, page in PAGES.items():
            text, path = page(), target / f"{name}.md"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                different.append(path.name)
                if not options["check"]:
                    path.write_text(text, encoding="utf-8")
        if different and options["check"]:
            raise CommandError(f"Out of date: {', '.join(different)}. Run `manage.py reference`.")
        self.stdout.write(f"{len(PAGES)} pages, {len(different)} {'differ' if options['check'] else 'written'}")
