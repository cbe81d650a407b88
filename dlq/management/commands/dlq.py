"""`dlq list | groups | show | replay | ignore | reopen | stats`."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from dlq import presenters, selectors, services
from dlq.models import DeadLetter
from workflows.management.bulk import add_pace, counted_out, watch
from workflows.management.output import READS, HeadraceCommand, json_argument, table
from workflows.presenters.runs import operation_out, repeat_out
from workflows.services import bulk
from workflows.services.repair import KEEP, MODES, VERSIONS
from workflows.services.repair import options as bulk_options
from workflows.templatetags.headrace import pretty

BLOCKS = " ▁▂▃▄▅▆▇█"


def sparkline(history: list[int]) -> str:
    """Counts as one character each."""
    top = max(history, default=0)
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // top)] if top else BLOCKS[0] for count in history)


class Command(HeadraceCommand):
    help = "Look at dead letters, replay or ignore them."
    changes = ("reopen",)
    changes_by_parts = ("replay", "ignore")
    not_audited: ClassVar[Mapping[str, str]] = dict.fromkeys(("list", "groups", "show", "stats"), READS)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = self.add_verb(verbs, "list", "list dead letters, newest first")
        _add_filter(listing)
        listing.add_argument("--limit", type=int, default=20)
        groups = self.add_verb(verbs, "groups", "one line per cause, with the last 24 hours")
        groups.add_argument("--status", default="failed", choices=[*DeadLetter.Status.values, "all"])
        groups.add_argument("--snoozed", action="store_true", help="snoozed ones too")
        show = self.add_verb(verbs, "show", "show a dead letter with its stack and history")
        show.add_argument("letter", type=UUID)
        replay = self.add_verb(verbs, "replay", "replay one, or all that a filter matches")
        replay.add_argument("letter", type=UUID, nargs="?")
        replay.add_argument("--mode", default="start", choices=MODES, help="from the start, or from the failed step")
        replay.add_argument(
            "--flow-version", dest="of_version", choices=VERSIONS, help="the flow's current version, or the run's own"
        )
        replay.add_argument("--data", help="an edited payload, as JSON (one letter only)")
        replay.add_argument("--force", action="store_true", help="also where it was repaired already (one letter only)")
        replay.add_argument("--dry-run", action="store_true", help="only say what would be done")
        ignore = self.add_verb(verbs, "ignore", "ignore one, or all that a filter matches")
        ignore.add_argument("letter", type=UUID, nargs="?")
        ignore.add_argument("--reason", required=True)
        ignore.add_argument("--dry-run", action="store_true", help="only say how many it would be")
        for verb in (replay, ignore):
            _add_filter(verb, status=False)
            verb.add_argument("--all", action="store_true", help="all that are failed")
            add_pace(verb)
        reopen = self.add_verb(verbs, "reopen", "put an ignored one back on the list")
        reopen.add_argument("letter", type=UUID)
        self.add_verb(verbs, "stats", "counts by status, category and flow")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "list": self._list,
            "groups": self._groups,
            "show": self._show,
            "replay": self._replay,
            "ignore": self._ignore,
            "reopen": self._reopen,
            "stats": self._stats,
        }
        verbs[options["verb"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        page = selectors.page(self.organization(options), _filter(options), limit=options["limit"])
        letters = [presenters.letter_out(letter) for letter in page.letters]
        if options["as_json"]:
            self.print_json({"deadLetters": letters, "nextCursor": page.next_cursor or None})
            return
        rows = table("dead letter", "flow", "step", "category", "attempts", "status", "failed", "error")
        for letter in letters:
            rows.add_row(
                letter["id"],
                letter["flow"],
                letter["step"] or "",
                letter["category"],
                str(letter["attempts"]),
                letter["status"],
                f"{letter['failedAt']:%Y-%m-%d %H:%M:%S}",
                letter["errorMessage"].splitlines()[0][:80] if letter["errorMessage"] else "",
            )
        self.console.print(rows)

    def _groups(self, options: dict[str, Any]) -> None:
        found = selectors.groups(self.organization(options), status=options["status"], snoozed=options["snoozed"])
        groups = [presenters.group_out(group) for group in found]
        if options["as_json"]:
            self.print_json(groups)
            return
        rows = table("group", "type", "category", "failed", "total", "24 hours", "last", "assigned", "message")
        for group in groups:
            rows.add_row(
                group["fingerprint"][:12],
                group["stepType"],
                group["category"],
                str(group["failed"]),
                str(group["total"]),
                sparkline(group["history"]),
                f"{group['lastSeen']:%m-%d %H:%M}" if group["lastSeen"] else "",
                group["assignedTo"] or "",
                group["message"][:80],
            )
        self.console.print(rows)

    def _show(self, options: dict[str, Any]) -> None:
        shown = presenters.detail_out(selectors.detail(self.organization(options), options["letter"]))
        self.print_json(shown) if options["as_json"] else self.stdout.write(pretty(shown))

    def _replay(self, options: dict[str, Any]) -> None:
        if options["letter"] is None:
            chosen = bulk_options(options["mode"], options["of_version"], options["force"])
            self._in_bulk("replay_dead_letters", options, chosen)
            return
        repeat = services.replay(
            self.organization(options),
            options["letter"],
            by="the command line",
            mode=options["mode"],
            version=options["of_version"],
            force=options["force"],
            data=KEEP if options["data"] is None else json_argument(options["data"], "--data"),
            dry_run=options["dry_run"],
        )
        self.doing("dead letter", options["letter"])
        if options["as_json"]:
            self.print_json(repeat_out(repeat))
            return
        verb = "would run" if options["dry_run"] else f"run {repeat.run_id} runs"
        self.stdout.write(f"{verb}: {', '.join(repeat.runs)}; taken over: {', '.join(repeat.kept) or 'nothing'}")

    def _ignore(self, options: dict[str, Any]) -> None:
        if options["letter"] is None:
            self._in_bulk("ignore_dead_letters", options, {"reason": options["reason"]})
            return
        if options["dry_run"]:
            raise CommandError("--dry-run belongs to a filter.")
        services.ignore(self.organization(options), options["letter"], by="the command line", reason=options["reason"])
        self.doing("dead letter", options["letter"])
        self._show(options)

    def _reopen(self, options: dict[str, Any]) -> None:
        services.reopen(self.organization(options), options["letter"], by="the command line")
        self.doing("dead letter", options["letter"])
        self._show(options)

    def _in_bulk(self, action: str, options: dict[str, Any], chosen: dict[str, Any]) -> None:
        where = _filter(options)
        if not where and not options["all"]:
            raise CommandError("Name a dead letter, a filter such as --group, or --all.")
        organization = self.organization(options)
        if options["dry_run"]:
            draft = bulk.draft(organization, action, where, options=chosen, per_second=options["rate"])
            if options["as_json"]:
                self.print_json(counted_out(draft))
            else:
                self.stdout.write(f"{draft.counted} dead letters match.")
            return
        started = bulk.start(
            organization, action, where, by="the command line", options=chosen, per_second=options["rate"]
        )
        self.doing("operation", started.id)
        ended = watch(self, started, wait=options["wait"], quiet=options["as_json"])
        if options["as_json"]:
            self.print_json(operation_out(ended))

    def _stats(self, options: dict[str, Any]) -> None:
        found = selectors.stats(self.organization(options))
        self.print_json(found) if options["as_json"] else self.stdout.write(pretty(found))


def _add_filter(parser: CommandParser, *, status: bool = True) -> None:
    if status:
        parser.add_argument("--status", default="", choices=["", *DeadLetter.Status.values])
    parser.add_argument("--group", default="", help="a group's id, fingerprint, or the first characters of that")
    parser.add_argument("--flow", default="")
    parser.add_argument("--workflow", dest="flow", default=SUPPRESS, help=SUPPRESS)  # the old word
    for name in ("category", "type", "step", "event", "run", "search", "since", "until"):
        parser.add_argument(f"--{name}", default="")


def _filter(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in selectors.NAMES if options.get(name)}
