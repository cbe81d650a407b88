"""`events send`: send events, and see what they started, or why nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from workflows import presenters, services
from workflows.edge.values import moment
from workflows.management.output import MAX_INPUT_BYTES, TOO_MUCH, HeadraceCommand, json_argument, standard_input
from workflows.models import Organization
from workflows.payload import parse
from workflows.selectors import events as selectors
from workflows.selectors.events import EventDetail
from workflows.services.events import MAX_EVENTS, EventsRefused
from workflows.services.tenancy import quotas

MAX_SHOWN = 50
LOOK_S = 0.1
STDIN = "-"


class Command(HeadraceCommand):
    help = "Send events, as programs do over HTTP."
    not_audited: ClassVar[Mapping[str, str]] = {"send": "The data plane: the event is kept, with what came of it."}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        send = self.add_verb(verbs, "send", "send an event, or those of a file; --wait shows what they started")
        send.add_argument("name", nargs="?", help="the event's name, such as order/created")
        send.add_argument("--data", help="its data: a JSON object, @file, or - for standard input (default: {})")
        send.add_argument("--id", default="", help="yours: the same id starts a flow once in 24 hours")
        send.add_argument("--user", default="", help="the user's id, or a JSON object")
        send.add_argument("--at", help="when it happened, such as 2026-11-22T10:00:00Z (default: now)")
        send.add_argument(
            "--from",
            dest="source",
            metavar="FILE",
            help="instead of a name: a file of whole events (- for standard input), as one JSON array, all or none, or "
            f"a line each (JSONL); at most {MAX_EVENTS:,}",
        )
        send.add_argument("--wait", action="store_true", help="until they are matched, and show what they started")
        send.add_argument("--timeout", type=float, default=30, help="seconds to wait at most (default: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        wanted, places = _wanted(options)
        try:
            ids = services.send_events(organization, wanted, before_storing=quotas.charge_of(organization))
        except EventsRefused as error:
            lines = [str(each).replace(f"events[{each.index}]", places(each.index)) for each in error.problems]
            raise CommandError("Nothing was sent. " + "; ".join(lines[:10])) from None
        found = []
        if options["wait"]:
            self._await(organization, ids, options["timeout"])
            found = _details(organization, ids[:MAX_SHOWN])
        if options["as_json"]:
            said: dict[str, Any] = {"ids": [str(id_) for id_ in ids], "status": 200}
            if options["wait"]:
                said |= {"events": [presenters.event_detail_out(each) for each in found], "more": len(ids) - len(found)}
            self.print_json(said)
        else:
            self._say(ids, found, is_awaited=options["wait"])

    def _await(self, organization: Organization, ids: Sequence[UUID], timeout_s: float) -> None:
        """Wait until all of the events are matched. Raises CommandError where that takes too long."""
        until = time.monotonic() + timeout_s
        while left := selectors.count_unmatched(organization, ids):
            if not time.monotonic() < until:
                raise CommandError(
                    f"{len(ids)} events are received, and {left} of them not matched after {timeout_s:g} s. They are "
                    "kept, and matched as soon as a worker leads: `manage.py doctor` says what is missing."
                )
            connection.close()
            time.sleep(LOOK_S)

    def _say(self, ids: Sequence[UUID], found: Sequence[EventDetail], *, is_awaited: bool) -> None:
        if not is_awaited:
            for id_ in ids:
                self.stdout.write(f"event {id_}")
            return
        for each in found:
            self.stdout.write(f"event {each.event.id} {each.event.name}")
            for line in came_of(each):
                self.stdout.write(f"  {line}")
        if len(ids) > len(found):
            self.stdout.write(f"{len(ids) - len(found):,} more were sent; the page Events shows what came of them.")


def came_of(detail: EventDetail) -> Iterator[str]:
    """What an event started, and why nothing of a flow that heard it."""
    for run in presenters.run_summaries(detail.runs):
        yield f"run {run['id']} of {run['flow']} v{run['version']}: {run['status']}"
    for each in detail.outcomes:
        outcome = presenters.outcome_out(each, detail.flows)
        instead = (
            f"; the run {outcome['runId']}" if outcome["runId"] and outcome["runId"] not in outcome["reason"] else ""
        )
        yield f"no run of {outcome['flow'] or 'a deleted flow'}: {outcome['code']}: {outcome['reason']}{instead}"
    if detail.event.unheard:
        yield f"no run: {presenters.NOBODY_LISTENS}"
    elif not detail.runs and not detail.outcomes:
        yield "no run: the conditions of those that hear it do not hold; a run that waits may have taken it"


def _details(organization: Organization, event_ids: Sequence[UUID]) -> list[EventDetail]:
    found = selectors.event_details(organization, event_ids)
    if missing := set(event_ids) - {each.event.id for each in found}:
        raise CommandError(f"The event {min(missing)} was deleted meanwhile (retention).")
    return found


Places = Callable[[int], str]
"""Where the events stand, by their index: for the sentence that refuses one."""


def _wanted(options: Mapping[str, Any]) -> tuple[Any, Places]:
    """What is to be sent, and how its events are named. Raises CommandError, and InvalidInput for a bad time."""
    own = [name for name in ("data", "id", "user", "at") if options[name]]
    if options["source"] is not None:
        if options["name"] is not None or own:
            raise CommandError("--from: the file has whole events; give no name and no --data, --id, --user or --at.")
        return _of_file(options["source"])
    if options["name"] is None:
        raise CommandError("Name an event (events send order/created), or give a file of events: --from FILE.")
    event: dict[str, Any] = {"name": options["name"], "data": _data(options["data"])}
    if options["id"]:
        event["id"] = options["id"]
    if options["user"]:
        is_object = options["user"].lstrip().startswith("{")
        event["user"] = json_argument(options["user"], "--user") if is_object else {"id": options["user"]}
    if options["at"]:
        event["ts"] = int(moment(options["at"], "--at").timestamp() * 1000)
    return event, lambda _: "the event"


def _data(text: str | None) -> Any:
    if text is None:
        return {}
    if text.startswith("@"):
        return parse(_read(text[1:]), what=f"--data {text[:100]}")
    return json_argument(text, "--data")


def _of_file(source: str) -> tuple[Any, Places]:
    """The events of a file: a JSON array or one event, or one in each line."""
    text = _read(source)
    lines = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise CommandError("--from: the file is empty.")
    if len(lines) > 1 and lines[0][1].lstrip().startswith(b"{") and _is_json(lines[0][1]):
        events = [parse(line, what=f"--from, line {number}") for number, line in lines]
        return events, lambda index: f"line {lines[index][0]}" if index < len(lines) else "the file"
    return parse(text, what="--from"), "events[{}]".format


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _read(source: str) -> bytes:
    """At most so much of a file or of standard input. Raises CommandError for more, OSError for what can't be read."""
    if source == STDIN:
        return standard_input()
    with Path(source).open("rb") as file:
        text = file.read(MAX_INPUT_BYTES + 1)
    if len(text) > MAX_INPUT_BYTES:
        raise CommandError(f"{source[:100]} has {TOO_MUCH}.")
    return text
