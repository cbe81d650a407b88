"""`perform_alone`: started by a worker for steps whose worker was lost. Not for people."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from workflows.engine.worker.alone import solitary


class Command(BaseCommand):
    help = "Started by a worker: performs steps whose worker was lost, one at a time. Not for people."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("handle", type=int)
        parser.add_argument("parent", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        solitary.serve(options["handle"], options["parent"])
