"""`up`: everything, from one command. (`manage.py` starts it without the application; see `devtools.up`.)"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from devtools import up
from devtools.processes import StartError


class Command(BaseCommand):
    help = "Start web, workers, beat and Flower in one supervised group. Ctrl-C stops all of it."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            up.run()
        except StartError as error:
            raise CommandError(str(error)) from None
