"""`loadtest`: start many runs of a flow at once, watch them, and lay the prediction beside what happened."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from workflows import services
from workflows.definitions.validate import parse
from workflows.duration import format_ms, parse_ms
from workflows.management.bulk import bar
from workflows.management.output import HeadraceCommand, json_argument, table
from workflows.models import Attempt, Flow, Organization, Run
from workflows.simulation import forecast


class Command(HeadraceCommand):
    help = "Start many runs of a flow at once, and compare what happens with what `limits simulate` predicts."
    not_audited: ClassVar[Mapping[str, str]] = {"": "The data plane: the run says by whom it was started."}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--flow", required=True, help="the flow, as it is published")
        parser.add_argument("--concurrent", type=int, default=50, help="how many runs (default: 50)")
        parser.add_argument("--input", default="{}", help="JSON of every run's input")
        parser.add_argument("--scale", type=float, default=1, help="periods of the flow's limits are so much shorter")
        parser.add_argument("--timeout", default="30m", help="give up after so long (default: 30m)")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        if not 1 <= options["concurrent"] <= services.MAX_RUNS_AT_ONCE:
            raise CommandError(f"--concurrent is 1 to {services.MAX_RUNS_AT_ONCE}")
        if not 1 <= options["scale"] <= 1_000:
            raise CommandError("--scale is 1 to 1000")
        data = json_argument(options["input"], "--input")
        try:
            patience_s = parse_ms(options["timeout"]) / 1000
        except ValueError as error:
            raise CommandError(str(error)) from None
        slug = options["flow"]
        if options["scale"] != 1:
            slug = scaled(organization, slug, options["scale"])
        flow = services.published(organization, slug)
        known = forecast.durations(organization, flow)
        runs = services.trigger_many(organization, slug, [data] * options["concurrent"]).run_ids
        self._await(runs, patience_s, quiet=options["as_json"])
        measured = measure(organization, runs)
        after = forecast.durations(organization, flow)
        predicted = forecast.Simulation(
            organization,
            flow,
            inputs=[data],
            durations_s={**after, **known},
            permits=forecast.permits_of_queues(),
        ).run([0.0] * len(runs))
        compared = compare(predicted, measured, _period_s(flow.slug, organization))
        if options["as_json"]:
            self.print_json(compared)
            return
        rows = table("", "predicted", "measured")
        for name, pair in compared["figures"].items():
            rows.add_row(name, str(pair["predicted"]), str(pair["measured"]))
        self.console.print(rows)
        if compared["staircase"]:
            steps = table("period", "runs that started, predicted", "measured", title="The staircase")
            for row in compared["staircase"]:
                steps.add_row(str(row["period"]), str(row["predicted"]), str(row["measured"]))
            self.console.print(steps)

    def _await(self, runs: list[UUID], patience_s: float, *, quiet: bool) -> None:
        deadline = time.monotonic() + patience_s
        with contextlib.nullcontext() if quiet else bar(self, "runs", len(runs), transient=True) as show:
            while True:
                ended = Run.objects.filter(id__in=runs, ended_at__isnull=False).count()
                if show is not None:
                    show(ended)
                if ended == len(runs):
                    return
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"{ended} of {len(runs)} runs ended in time; `limits explain RUN` says why a run waits."
                    )
                time.sleep(0.2)


def scaled(organization: Organization, slug: str, scale: float) -> str:
    """Publish a copy of the flow whose limits' periods are shorter by this factor; its slug."""
    flow = Flow.objects.filter(organization=organization, slug=slug).select_related("current").first()
    if flow is None or flow.current is None:
        raise CommandError(f"There is no published flow {slug!r}; `flows list` shows what there is.")
    document = json.loads(json.dumps(flow.current.definition))
    document["flow"] = f"{slug[:80]}-scaled"
    document.pop("on", None)
    places = [document.get("throttle")]
    places += [(step.get("throttling") or {}).get("rate") for step in document["steps"]]
    for place in places:
        if place and place.get("period"):
            place["period"] = format_ms(max(1, round(parse_ms(place["period"]) / scale)))
    services.apply_definition(organization, parse(document))
    return str(document["flow"])


def _period_s(slug: str, organization: Organization) -> float:
    """The period of the flow's throttle; 0 where it has none."""
    flow = Flow.objects.select_related("current").get(organization=organization, slug=slug)
    throttle = (flow.current.definition if flow.current else {}).get("throttle") or {}
    return parse_ms(throttle["period"]) / 1000 if throttle.get("period") else 0.0


def measure(organization: Organization, runs: list[UUID]) -> dict[str, Any]:
    """When runs and steps really started and ended, in seconds since the trigger."""
    rows = list(Run.objects.filter(id__in=runs))
    zero = min(row.created_at for row in rows)
    tries = Attempt.objects.filter(org_id=organization.id, run_id__in=runs, started_at__isnull=False)
    spans = [((a.started_at - zero).total_seconds(), (a.ended_at - zero).total_seconds()) for a in tries]  # type: ignore[operator]
    run_spans = [
        ((r.started_at - zero).total_seconds(), (r.ended_at - zero).total_seconds())
        for r in rows
        if r.started_at and r.ended_at
    ]
    return {
        "starts": sorted(start for start, _ in spans),
        "run_starts": sorted(start for start, _ in run_spans),
        "ended": max((end for _, end in run_spans), default=0.0),
        "most_steps": forecast.most_at_once(spans),
        "most_runs": forecast.most_at_once(run_spans),
        "completed": sum(1 for row in rows if row.status == "completed"),
        "failed": sum(1 for row in rows if row.status == "failed"),
    }


def compare(predicted: forecast.Forecast, measured: dict[str, Any], period_s: float) -> dict[str, Any]:
    """Side by side; times in seconds."""

    def pair(before: Any, after: Any) -> dict[str, Any]:
        return {"predicted": before, "measured": after}

    figures = {
        "runs that completed": pair(predicted.runs, measured["completed"]),
        "runs that failed": pair(0, measured["failed"]),
        "last run starts after (s)": pair(_last(predicted.run_starts_s), _last(measured["run_starts"])),
        "last step starts after (s)": pair(_last(predicted.starts_s), _last(measured["starts"])),
        "all end after (s)": pair(round(predicted.ended_s, 2), round(measured["ended"], 2)),
        "most steps at once": pair(predicted.most_steps, measured["most_steps"]),
        "most runs at once": pair(predicted.most_runs, measured["most_runs"]),
    }
    staircase: list[dict[str, int]] = []
    if period_s:
        figures["most run starts in a period"] = pair(
            forecast.fullest_window(predicted.run_starts_s, period_s),
            forecast.fullest_window(measured["run_starts"], period_s),
        )
        before = forecast.staircase(predicted.run_starts_s, period_s)
        after = forecast.staircase(measured["run_starts"], period_s)
        staircase = [
            {"period": number, "predicted": before.get(number, 0), "measured": after.get(number, 0)}
            for number in sorted({*before, *after})
        ]
    return {"figures": figures, "staircase": staircase}


def _last(moments: list[float]) -> float:
    return round(moments[-1], 2) if moments else 0.0
