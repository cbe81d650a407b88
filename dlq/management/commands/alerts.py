"""`alerts list | rules | evaluate | test`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from dlq import presenters, selectors
from dlq.alerting import channels, evaluation
from dlq.models import AlertRule
from workflows.management.output import READS, HeadraceCommand, table


class Command(HeadraceCommand):
    help = "Look at alerts and their rules, and try channels."
    not_audited: ClassVar[Mapping[str, str]] = {
        "list": READS,
        "rules": READS,
        "evaluate": "It does at once what beat does every minute.",
        "test": "It stores nothing.",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = self.add_verb(verbs, "list", "the latest alerts")
        listing.add_argument("--open", action="store_true", help="only those that have not recovered")
        self.add_verb(verbs, "rules", "the rules")
        self.add_verb(verbs, "evaluate", "look at the rules now, as beat does every minute, and deliver")
        test = self.add_verb(verbs, "test", "send a test message to an address")
        test.add_argument("url", help="as apprise takes it")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "list": self._list,
            "rules": self._rules,
            "evaluate": self._evaluate,
            "test": self._test,
        }
        verbs[options["verb"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        found = selectors.alerts(self.organization(options), open_only=options["open"])
        shown = [presenters.alert_out(alert) for alert in found]
        if options["as_json"]:
            self.print_json(shown)
            return
        rows = table("fired", "recovered", "severity", "rule", "title")
        for alert in shown:
            recovered = f"{alert['recoveredAt']:%m-%d %H:%M:%S}" if alert["recoveredAt"] else ""
            rule = alert["rule"] or ""
            rows.add_row(f"{alert['firedAt']:%m-%d %H:%M:%S}", recovered, alert["severity"], rule, alert["title"])
        self.console.print(rows)

    def _rules(self, options: dict[str, Any]) -> None:
        rules = list(AlertRule.objects.values())
        if options["as_json"]:
            self.print_json(rules)
            return
        rows = table("rule", "metric", "", "threshold", "window", "severity", "on")
        for rule in rules:
            rows.add_row(
                rule["name"],
                rule["metric"],
                rule["comparison"],
                f"{rule['threshold']:g}",
                f"{rule['window_s']} s",
                rule["severity"],
                "yes" if rule["enabled"] else "no",
            )
        self.console.print(rows)

    def _evaluate(self, options: dict[str, Any]) -> None:
        change = evaluation.evaluate()
        delivered = evaluation.deliver()
        result = {"fired": change.fired, "recovered": change.recovered, "delivered": delivered}
        if options["as_json"]:
            self.print_json(result)
        else:
            self.stdout.write(f"{change.fired} fired, {change.recovered} recovered, {delivered} messages delivered")

    def _test(self, options: dict[str, Any]) -> None:
        problem = channels.problem_of(options["url"]) or channels.say(
            [options["url"]], "Headrace", "This is a test message.", "info"
        )
        if problem:
            raise CommandError(problem)
        self.print_json({"sent": True}) if options["as_json"] else self.stdout.write("sent")
