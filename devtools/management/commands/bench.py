"""`bench seed | pages`: a large database, and how quick pages are on it. (`make bench` measures the engine.)"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from bench.volume import filling, pages, templates
from workflows.management.output import HeadraceCommand, table

MOST_RUNS = 100_000_000


class Command(HeadraceCommand):
    help = "Fill a database with copies of executed runs, and measure every page and GET on it. Never for production."
    not_audited: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("seed", "pages"), "It fills the embedded database of a checkout, for measurements."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        seed = self.add_verb(verbs, "seed", "insert copies of executed runs, spread over 29 days; needs a live worker")
        seed.add_argument("--runs", type=int, default=1_000_000, help="how many (default: 1,000,000)")
        seed.add_argument("--steps", type=int, default=5, help="steps of each run (default: 5)")
        measured = self.add_verb(verbs, "pages", "request every page, admin list and GET of the API")
        measured.add_argument("--repeats", type=int, default=20, help="requests of each address (default: 20)")

    def handle(self, *args: Any, **options: Any) -> None:
        if os.environ.get("HEADRACE_EMBEDDED") != "1":
            raise CommandError("This fills the database with invented runs: it works on the embedded services only.")
        organization = self.organization(options)
        if options["verb"] == "seed":
            self._seed(organization, options)
        else:
            self._pages(organization, options)

    def _seed(self, organization: Any, options: dict[str, Any]) -> None:
        if not 1 <= options["runs"] <= MOST_RUNS or not 1 <= options["steps"] <= 100:
            raise CommandError(f"Give --runs 1 to {MOST_RUNS:,}, and --steps 1 to 100.")
        try:
            copied = templates.execute(organization, options["steps"])
        except templates.NoWorker as error:
            raise CommandError(str(error)) from None
        filling.fill(copied, options["runs"], lambda made: self.stderr.write(f"{made:,} runs"))

    def _pages(self, organization: Any, options: dict[str, Any]) -> None:
        try:
            found, missing = pages.measure(organization, max(options["repeats"], 1))
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        found.sort(key=lambda each: -each.percentile(0.95))
        if options["as_json"]:
            self.print_json({"addresses": [each._asdict() for each in found], "notMeasured": missing})
            return
        rows = table("address", "status", "p50 ms", "p95 ms", "statements", "buffers", "")
        for each in found:
            slow = "!" if each.percentile(0.95) > pages.GOAL_MS else ""
            p50, p95 = f"{each.percentile(0.5):.0f}", f"{each.percentile(0.95):.0f}"
            rows.add_row(each.address, str(each.status), p50, p95, str(each.statements), f"{each.buffers:,}", slow)
        self.console.print(rows)
        for pattern in missing:
            self.stdout.write(f"not measured (no sample for its parameters): /{pattern}")
