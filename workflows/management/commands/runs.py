"""`runs list | show | cancel | replay | fork | import | export-journal`."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from workflows import presenters, selectors, services
from workflows.edge import tags
from workflows.functions.replay import recorded, stored
from workflows.management.bulk import add_pace, counted_out, watch
from workflows.management.commands.trigger import steps_table
from workflows.management.output import READS, HeadraceCommand, json_argument, table
from workflows.models import Run
from workflows.selectors import run_lists
from workflows.selectors.searching.criteria import Criteria
from workflows.selectors.searching.walk import find
from workflows.services import bulk, repair
from workflows.services.retention import importing
from workflows.templatetags.headrace import duration, pretty


class Command(HeadraceCommand):
    help = "List, show, cancel, replay and fork runs."
    changes = ("fork",)
    changes_by_parts = ("cancel", "replay", "import")
    not_audited: ClassVar[Mapping[str, str]] = dict.fromkeys(("list", "show", "export-journal"), READS)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = self.add_verb(verbs, "list", "list runs, newest first")
        listing.add_argument("--status", default="", choices=["", *Run.Status.values, "waiting"])
        listing.add_argument("--flow", default="")
        listing.add_argument("--event", default="", help="the name of the event that started them")
        listing.add_argument("--user", default="")
        listing.add_argument("--tag", default="", help="a tag, or several between commas: runs with all of them")
        add_old_words(listing)
        listing.add_argument("--sort", default="created", choices=run_lists.SORTS)
        listing.add_argument("--limit", type=int, default=20)
        show = self.add_verb(verbs, "show", "show a run with its steps")
        show.add_argument("run", type=UUID)
        cancel = self.add_verb(verbs, "cancel", "cancel a run, or all live ones that a filter matches")
        cancel.add_argument("--reason", default="")
        replay = self.add_verb(verbs, "replay", "run an ended run again, or all that a filter matches")
        replay.add_argument("--mode", default="start", choices=repair.MODES, help="from the start, or from what failed")
        for verb in (cancel, replay):
            verb.add_argument("run", type=UUID, nargs="?")
            verb.add_argument("--all", action="store_true", help="all of them")
            for name in selectors.FILTERS:
                option = "--user" if name == "userId" else f"--{name}"
                verb.add_argument(option, dest=name, default="", help="a filter")
            add_old_words(verb, user="userId")
            add_pace(verb)
        fork = self.add_verb(verbs, "fork", "a new run from some steps of an ended one on")
        fork.add_argument("run", type=UUID)
        fork.add_argument("--from", nargs="+", dest="from_steps", required=True, metavar="STEP")
        for verb in (replay, fork):
            verb.add_argument("--flow-version", dest="of_version", choices=repair.VERSIONS)
            verb.add_argument("--data", help="a changed input, as JSON (one run only)")
            verb.add_argument("--dry-run", action="store_true", help="only say what would be done")
        export = self.add_verb(verbs, "export-journal", "print a run of a flow in Python as JSON, for a test")
        export.add_argument("run", type=UUID)
        import_ = self.add_verb(verbs, "import", "bring back runs that `prune --export` wrote to a file, as history")
        import_.add_argument("file", type=Path)
        import_.add_argument("--keep-days", type=float, default=importing.KEEP_DAYS, help="how long from now on (30)")
        replay.add_argument("--force", action="store_true", help="also where it was repaired already")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "list": self._list,
            "show": self._show,
            "cancel": self._cancel,
            "replay": self._replay,
            "fork": self._fork,
            "export-journal": self._export_journal,
            "import": self._import,
        }
        verbs[options["verb"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        where = run_lists.RunFilter(
            status=options["status"], workflow=options["flow"], event_name=options["event"], user_id=options["user"]
        )
        criteria, sort = Criteria(where=where, tags=tags.wanted(options["tag"])), options["sort"]
        page = find(self.organization(options), criteria, sort=sort, limit=options["limit"], only_sorted=True)
        summaries = presenters.run_summaries(page.runs)
        if options["as_json"]:
            following = page.next_cursor or None
            self.print_json({"runs": summaries, "nextCursor": following, "searchedTo": page.searched_to})
            return
        rows = table("run", "flow", "status", "trigger", "created", "duration", "tags")
        for run in summaries:
            rows.add_row(
                run["id"],
                f"{run['flow']} v{run['version']}",
                run["status"],
                run["event"] or run["trigger"],
                f"{run['createdAt']:%Y-%m-%d %H:%M:%S}",
                duration(run["duration"]),
                " ".join(run["tags"]),
            )
        self.console.print(rows)
        if page.searched_to is not None:
            self.stdout.write(
                f"searched back to {page.searched_to:%Y-%m-%d %H:%M:%S} UTC; narrow it by --flow or --user"
            )

    def _show(self, options: dict[str, Any]) -> None:
        detail = selectors.run_detail(self.organization(options), options["run"])
        if options["as_json"]:
            self.print_json(presenters.run_out(detail))
            return
        self.console.print(steps_table(detail))
        if detail.run.error:
            self.stdout.write(f"error: {pretty(detail.run.error)}")

    def _export_journal(self, options: dict[str, Any]) -> None:
        self.print_json(recorded.to_json(stored.load(self.organization(options), options["run"])))

    def _import(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        self.doing("runs", options["file"].name)
        done = importing.import_runs(organization, options["file"], keep_days=options["keep_days"])
        if options["as_json"]:
            self.print_json(
                {"runs": done.runs, "known": done.known, "rows": dict(done.rows), "cutOff": done.is_cut_off}
            )
            return
        self.stdout.write(f"{done.runs:,} runs are back, {done.known:,} were there already")
        if done.is_cut_off:
            self.stdout.write("A page of the file has no end: it is left out. Its runs were not deleted by its export.")

    def _cancel(self, options: dict[str, Any]) -> None:
        if options["run"] is None:
            self._in_bulk("cancel_runs", options, {"reason": options["reason"]})
            return
        services.cancel_run(self.organization(options), options["run"], reason=options["reason"])
        self.doing("run", options["run"])
        self._show(options)

    def _replay(self, options: dict[str, Any]) -> None:
        if options["run"] is None:
            self._in_bulk(
                "replay_runs", options, repair.options(options["mode"], options["of_version"], options["force"])
            )
            return
        repeat = repair.replay(
            self.organization(options),
            options["run"],
            by="the command line",
            mode=options["mode"],
            version=options["of_version"],
            force=options["force"],
            new_input=_new_input(options),
            dry_run=options["dry_run"],
        )
        self.doing("run", options["run"])
        self.print_json(presenters.repeat_out(repeat))

    def _fork(self, options: dict[str, Any]) -> None:
        repeat = repair.fork_run(
            self.organization(options),
            options["run"],
            options["from_steps"],
            version=options["of_version"] or "same",
            new_input=_new_input(options),
            dry_run=options["dry_run"],
        )
        self.doing("run", options["run"])
        self.print_json(presenters.repeat_out(repeat))

    def _in_bulk(self, action: str, options: dict[str, Any], chosen: dict[str, Any]) -> None:
        where = {name: options[name] for name in selectors.FILTERS if options.get(name)}
        if not where and not options["all"]:
            raise CommandError("Name a run, a filter such as --flow, or --all.")
        organization = self.organization(options)
        if options.get("dry_run"):
            draft = bulk.draft(organization, action, where, options=chosen, per_second=options["rate"])
            self.print_json(counted_out(draft))
            return
        started = bulk.start(
            organization, action, where, by="the command line", options=chosen, per_second=options["rate"]
        )
        self.doing("operation", started.id)
        ended = watch(self, started, wait=options["wait"], quiet=options["as_json"])
        if options["as_json"]:
            self.print_json(presenters.operation_out(ended))


def add_old_words(parser: CommandParser, *, user: str = "user") -> None:
    """The names that these options had before."""
    parser.add_argument("--workflow", dest="flow", default=SUPPRESS, help=SUPPRESS)
    parser.add_argument("--userId", dest=user, default=SUPPRESS, help=SUPPRESS)


def _new_input(options: dict[str, Any]) -> Any:
    return repair.KEEP if options["data"] is None else json_argument(options["data"], "--data")
