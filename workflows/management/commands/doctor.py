"""`doctor`: is anything stuck, and does everything answer?"""

from __future__ import annotations

from typing import Any

from workflows import selectors, services
from workflows.engine.probes import broker_answers, store_answers
from workflows.management.output import HeadraceCommand, table


class Command(HeadraceCommand):
    help = (
        "Report faults of the engine and what answers. Exit code 1 where there is a fault or something does not answer."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        health = selectors.health()
        checks = services.readiness(store=store_answers(), broker=broker_answers())
        faults = {name: health[name] for name in selectors.FAULTS if health[name]}
        if options["as_json"]:
            self.print_json({**health, "checks": checks, "ok": not faults and all(checks.values())})
        else:
            rows = table("what", "now")
            for name, value in {**health, **checks}.items():
                rows.add_row(name, str(value))
            self.console.print(rows)
        if faults or not all(checks.values()):
            raise SystemExit(1)
