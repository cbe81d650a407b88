"""`limits list | set | unset | explain | simulate | report | history`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from throttling.models import ThrottleOverride
from workflows import services
from workflows.duration import parse_ms
from workflows.edge.values import whole_number
from workflows.management.output import READS, HeadraceCommand, json_argument, table
from workflows.models import Organization
from workflows.presenters.limits import change_out, line_out, reason_out
from workflows.selectors import limits as limit_selectors
from workflows.selectors import waiting_reasons
from workflows.selectors.waiting_reasons import Explained
from workflows.services import limits
from workflows.simulation import forecast as simulation

BY = "manage.py limits"


def _explained_out(explained: Explained) -> dict[str, Any]:
    step_run_id = str(explained.step_run_id) if explained.step_run_id else None
    return {"step": explained.key or None, "stepRunId": step_run_id, **reason_out(explained.reason)}


def duration_s(text: str) -> float:
    """Seconds of "60s". Raises CommandError."""
    try:
        return parse_ms(text) / 1000
    except ValueError as error:
        raise CommandError(str(error)) from None


def rate(text: str) -> tuple[int, int]:
    """(limit, period in ms) of "20/60s". Raises CommandError."""
    number, _, period = text.partition("/")
    limit = whole_number(number)
    if not limit or not period:
        raise CommandError(f"{text[:100]!r} is no rate; write 20/60s")
    period_ms = round(duration_s(period if period[0].isdecimal() else f"1{period}") * 1000)
    if not period_ms:
        raise CommandError(f"{text[:100]!r} is no rate: its period is empty; write 20/60s")
    return limit, period_ms


class Command(HeadraceCommand):
    help = "Limits: how they stand, why a step waits, live overrides, and what a flow would do under them."
    changes = ("set", "unset")
    not_audited: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("list", "explain", "simulate", "report", "history"), READS
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verb(verbs, "list", "every limit: its use, waiters, refusals, next free time; and the overrides")
        for name, text in (("set", "override a limit, live"), ("unset", "remove an override")):
            verb = self.add_verb(verbs, name, text)
            verb.add_argument("--global", action="store_true", dest="for_global", help="all steps")
            verb.add_argument("--runs", action="store_true", help="all runs")
            verb.add_argument("--type", default="", help="a step type")
            verb.add_argument("--flow", default="", help="a flow")
            verb.add_argument("--limit", default="", help="a shared limit, by the name that steps use")
            verb.add_argument("--organization", action="store_true", help="the organization of --org")
            verb.add_argument("--all", action="store_true", help="of all organizations (with --type or --limit)")
            if name == "set":
                verb.add_argument("--concurrency", type=int, help="at most so many at once")
                verb.add_argument("--rate", help="at most so many starts in a period, like 20/60s")
                verb.add_argument("--algorithm", choices=ThrottleOverride.Algorithm.values, default="window")
                verb.add_argument("--burst", type=int, default=1, help="of gcra")
                verb.add_argument("--key", default="", help="CEL: a limit of its own for each value")
                verb.add_argument("--attempts", type=int, help="tries, the first included")
                verb.add_argument(
                    "--weight", type=float, help="the organization's share where it has to wait, 0.01 … 100"
                )
                verb.add_argument("--note", default="", help="why")
        explain = self.add_verb(verbs, "explain", "why a step waits")
        explain.add_argument("step_run", help="the id of the step run, or of a run")
        simulate = self.add_verb(verbs, "simulate", "predict delays, throughput and the limit that binds")
        simulate.add_argument("--flow", required=True, help="the flow, as it is published")
        simulate.add_argument("--rate", default="", help="runs that arrive, like 5/s or 100/1m")
        simulate.add_argument("--for", default="1m", dest="length", help="for so long (default: 1m)")
        simulate.add_argument("--burst", type=int, default=0, help="so many runs at once instead")
        simulate.add_argument("--input", action="append", default=[], help="JSON of a run's input; several take turns")
        simulate.add_argument("--duration", action="append", default=[], metavar="STEP=TIME", help="e.g. a=250ms")
        simulate.add_argument("--default-duration", default="10ms", help="of steps that never ran (default: 10ms)")
        report = self.add_verb(verbs, "report", "which step types lose most time to their limits")
        report.add_argument("--since", default="1h", help="how far back (default: 1h)")
        self.add_verb(verbs, "history", "who changed what when")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "list": self._list,
            "set": self._set,
            "unset": self._unset,
            "explain": self._explain,
            "simulate": self._simulate,
            "report": self._report,
            "history": self._history,
        }
        verbs[options["verb"]](self.organization(options), options)

    def _list(self, organization: Organization, options: dict[str, Any]) -> None:
        lines = limit_selectors.overview(organization)
        if options["as_json"]:
            self.print_json([line_out(line) for line in lines])
            return
        rows = table("limit", "bound", "in use", "started", "waiting", "refused", "free in")
        for line in lines:
            state = line.state
            if state is None:
                rows.add_row(line.what, line.bound, *["?"] * 5)
                continue
            free = f"{state.next_free_s:.1f} s" if state.next_free_s and state.waiting else ""
            started = str(state.started) if state.kind == "w" else ""
            rows.add_row(
                line.what, line.bound, str(state.in_use), started, str(state.waiting), str(state.refused), free
            )
        self.console.print(rows)
        for note in limit_selectors.never_binding(organization):
            self.stdout.write(note)

    def _subject(self, organization: Organization, options: dict[str, Any]) -> dict[str, Any]:
        chosen = {
            "global": options["for_global"],
            "runs": options["runs"],
            "type": options["type"],
            "flow": options["flow"],
            "limit": options["limit"],
            "org": options["organization"],
        }
        scopes = [scope for scope, value in chosen.items() if value]
        if len(scopes) != 1:
            raise CommandError("Name one of --global, --runs, --type, --flow, --limit and --organization.")
        everyone = options["all"] or scopes[0] in {"global", "runs"}
        return {
            "scope": scopes[0],
            "type": options["type"],
            "flow_id": limits.flow_of(organization, options["flow"]).id if options["flow"] else None,
            "org_id": None if everyone else organization.id,
            "name": options["limit"],
        }

    def _set(self, organization: Organization, options: dict[str, Any]) -> None:
        limit, period_ms = rate(options["rate"]) if options["rate"] else (None, None)
        row = ThrottleOverride(
            **self._subject(organization, options),
            concurrency=options["concurrency"],
            rate_limit=limit,
            rate_period_ms=period_ms,
            rate_algorithm=options["algorithm"],
            rate_burst=options["burst"],
            key=options["key"],
            max_attempts=options["attempts"],
            weight=options["weight"],
            note=options["note"],
        )
        self.doing("limit", row, of_all=row.org_id is None)
        limits.put_limit(row, by=BY)
        self._say(f"{row} is overridden.", {"set": str(row)}, options)

    def _unset(self, organization: Organization, options: dict[str, Any]) -> None:
        row = ThrottleOverride.objects.filter(**self._subject(organization, options)).first()
        if row is None:
            raise CommandError("There is no such override; `limits list` shows what there is.")
        self.doing("limit", row, of_all=row.org_id is None)
        limits.delete_limit(row, by=BY)
        self._say(f"{row} is no longer overridden.", {"unset": str(row)}, options)

    def _say(self, text: str, value: dict[str, Any], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.print_json(value)
        else:
            self.stdout.write(text)

    def _explain(self, organization: Organization, options: dict[str, Any]) -> None:
        try:
            given = UUID(options["step_run"])
        except ValueError:
            raise CommandError(f"{options['step_run']!r} is no id.") from None
        found = waiting_reasons.explain(organization, given)
        if options["as_json"]:
            self.print_json([_explained_out(each) for each in found])
            return
        for each in found:
            self.stdout.write(f"{each.key}: {each.reason.sentence}" if each.key else each.reason.sentence)

    def _simulate(self, organization: Organization, options: dict[str, Any]) -> None:
        flow = services.published(organization, options["flow"])
        known = simulation.durations(organization, flow)
        for pair in options["duration"]:
            key, _, time = pair.partition("=")
            if key not in flow.steps or not time:
                raise CommandError(f"--duration {pair!r}: write STEP=TIME with a step of {', '.join(flow.steps)}")
            known[key] = duration_s(time)
        inputs = [json_argument(text, "--input") for text in options["input"]]
        if options["burst"]:
            if not 1 <= options["burst"] <= simulation.MAX_STEPS:
                raise CommandError(f"--burst is 1 to {simulation.MAX_STEPS:,}; simulate a shorter time or fewer runs.")
            arrivals = [0.0] * options["burst"]
        elif options["rate"]:
            number, period_ms = rate(options["rate"])
            arrivals = simulation.steady(number / period_ms * 1000, duration_s(options["length"]))
        else:
            raise CommandError("Say how runs arrive: --rate 5/s (with --for 10m), or --burst 200.")
        forecast = simulation.Simulation(
            organization,
            flow,
            inputs=inputs or [{}],
            durations_s=known,
            default_s=duration_s(options["default_duration"]),
            permits=simulation.permits_of_queues(),
        ).run(arrivals)
        if options["as_json"]:
            self.print_json(forecast.as_json())
            return
        found = forecast.as_json()
        self.stdout.write(
            f"{found['runs']} runs: the last step starts after {found['lastStart']} s, all end after "
            f"{found['finished']} s ({found['runsPerMinute']} runs a minute); at most {found['mostStepsAtOnce']} steps "
            f"and {found['mostRunsAtOnce']} runs at once."
        )
        rows = table("step", "type", "starts", "runs for", "waits p50", "p95", "max")
        for step in found["steps"]:
            delay = step["queueDelay"]
            times = [f"{value:,.0f} ms" for value in (step["duration"], delay["p50"], delay["p95"], delay["max"])]
            rows.add_row(step["id"], step["type"], str(step["starts"]), *times)
        self.console.print(rows)
        for limit, share in forecast.binding[:5]:
            self.stdout.write(f"{share:.0%} of the waiting is for {limit_selectors.describe(limit)}")
        if not forecast.binding:
            self.stdout.write("No limit binds.")

    def _report(self, organization: Organization, options: dict[str, Any]) -> None:
        found = limit_selectors.report(organization, since_s=duration_s(options["since"]))
        if options["as_json"]:
            self.print_json(found)
            return
        rows = table("step type", "tries", "waited on average", "p95", "longest", "in all", "ran on average")
        for row in found:
            rows.add_row(
                row["stepType"],
                str(row["tries"]),
                f"{row['averageThrottlingOverhead']:,.0f} ms",
                f"{row['p95ThrottlingOverhead']:,.0f} ms",
                f"{row['longestThrottlingOverhead']:,.0f} ms",
                f"{row['totalOverhead']:,.1f} s",
                f"{row['averageDuration']:,.0f} ms",
            )
        self.console.print(rows)

    def _history(self, organization: Organization, options: dict[str, Any]) -> None:
        changes = limit_selectors.history(organization, everyone=True)
        if options["as_json"]:
            self.print_json([change_out(change) for change in changes])
            return
        rows = table("revision", "at", "by", "what", "now")
        for change in changes:
            now = {k: v for k, v in (change.after or {}).items() if v not in (None, "")}
            rows.add_row(str(change.id), f"{change.at:%Y-%m-%d %H:%M:%S}", change.by, change.place, json.dumps(now))
        self.console.print(rows)
