"""`manage.py excerpts`: the code in the documents, from the files that are run."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.env import BASE_DIR
from devtools import excerpts


class Command(BaseCommand):
    help = "Fill in the code blocks of the documents that say from which file they are."

    def handle(self, **_: Any) -> None:
        for page in excerpts.pages():
            try:
                text = excerpts.filled_in(page.read_text("utf-8"))
            except excerpts.NoExcerpt as error:
                raise CommandError(f"{page.relative_to(BASE_DIR)}: {error}") from None
            page.write_text(text, "utf-8")
