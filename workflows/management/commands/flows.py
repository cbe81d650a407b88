"""`flows validate | apply | publish | export | list | archive | unarchive | delete`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from workflows import selectors, services
from workflows.definitions import document
from workflows.definitions.document import Document
from workflows.definitions.validate import DefinitionProblems, Problem
from workflows.errors import FlowNotFound
from workflows.functions import publish as code
from workflows.management import replay_check
from workflows.management.output import READS, HeadraceCommand, table
from workflows.models import Flow, FlowVersion
from workflows.services.flows import archiving

BY = "manage.py flows"
LOOK_AGAIN_S = 0.5


def _text(version: FlowVersion, form: str) -> str:
    """As it was written, with its comments, where that is known; else made from the stored definition."""
    if form == "yaml" and version.source:
        return version.source.removesuffix("\n") + "\n"
    return document.dumps(version.definition, form=form)


class Command(HeadraceCommand):
    help = "Check, publish, export and list flow definitions."
    changes = ("archive", "unarchive")
    changes_by_parts = ("apply", "publish", "delete")
    not_audited: ClassVar[Mapping[str, str]] = dict.fromkeys(("validate", "export", "list", "replay-check"), READS)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, text in (("validate", "check files"), ("apply", "check files and publish what changed")):
            command = self.add_verb(verbs, verb, text)
            command.add_argument("paths", nargs="+", type=Path, help="YAML or JSON files, or directories of them")
        self.add_verb(verbs, "publish", "publish the flows in Python of this project's code, where they changed")
        export = self.add_verb(verbs, "export", "print published definitions")
        export.add_argument("slugs", nargs="*")
        export.add_argument("--format", choices=("yaml", "json"), default="yaml")
        listed = self.add_verb(verbs, "list", "list the flows")
        listed.add_argument("--archived", action="store_true", help="those that are archived, and no others")
        archive = self.add_verb(verbs, "archive", "let a flow start nothing any more; its history stays")
        unarchive = self.add_verb(verbs, "unarchive", "bring an archived flow back")
        delete = self.add_verb(verbs, "delete", "delete a flow")
        for command in (archive, unarchive, delete):
            command.add_argument("slug")
        delete.add_argument(
            "--history", choices=archiving.HISTORIES, required=True,
            help="keep: archive it; delete: its versions, runs and dead letters go too, for good",
        )  # fmt: skip
        delete.add_argument("--yes", action="store_true", help="do not ask")
        replay_check.add_arguments(
            self.add_verb(verbs, "replay-check", "say whether this code fits the runs in flight of flows in Python")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "validate": self._validate,
            "apply": self._apply,
            "publish": self._publish,
            "export": self._export,
            "list": self._list,
            "archive": self._archive,
            "unarchive": self._unarchive,
            "delete": self._delete,
            "replay-check": self._replay_check,
        }
        verbs[options["verb"]](options)

    def _publish(self, options: dict[str, Any]) -> None:
        """As part of a deployment, before its workers start; and to go back to code that was published before."""
        try:
            published = code.publish(self.organization(options))
        except DefinitionProblems as error:
            raise CommandError("\n".join(str(problem) for problem in error.problems)) from None
        if not published:
            raise CommandError("There are no flows in Python: write them into flows.py of an installed app.")
        self._published([each.flow.slug for each in published if each.changed])
        for each in published:
            self.stdout.write(f"{each.flow.slug}: version {each.number}{'' if each.changed else ' (unchanged)'}")

    def _published(self, slugs: list[str]) -> None:
        self.doing("flow", slugs[0] if len(slugs) == 1 else "")
        if not slugs:
            self.changed_nothing()

    def _replay_check(self, options: dict[str, Any]) -> None:
        replay_check.run(self, options)

    def _read(self, options: dict[str, Any]) -> list[Document]:
        """All definitions, or an error that names everything wrong in all files. Nothing is applied then."""
        found: list[Document] = []
        problems: list[Problem] = []
        seen: dict[str, Path] = {}
        files = document.files_in(options["paths"])
        if not files:
            raise CommandError("There is no .yaml, .yml or .json file at the given paths.")
        for path in files:
            try:
                read = document.read(path)
            except DefinitionProblems as error:
                problems.extend(error.problems)
                continue
            slug = read.spec.flow
            if slug in seen:
                problems.append(Problem(file=str(path), path="flow", reason=f"{slug!r} is defined in {seen[slug]} too"))
            seen[slug] = path
            found.append(read)
        if problems:
            if options["as_json"]:
                self.print_json({"ok": False, "problems": [dataclasses.asdict(problem) for problem in problems]})
            raise CommandError("\n" + "\n".join(str(problem) for problem in problems))
        return found

    def _validate(self, options: dict[str, Any]) -> None:
        found = self._read(options)
        if options["as_json"]:
            flows = [
                {"file": str(each.path), "flow": each.spec.flow, "warnings": each.changed_readings} for each in found
            ]
            self.print_json({"ok": True, "flows": flows})
            return
        for each in found:
            self.stdout.write(f"{each.path}: {each.spec.flow} is valid ({len(each.spec.steps)} steps)")
            for warning in each.changed_readings:
                self.stdout.write(f"  {warning}")

    def _apply(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        read = self._read(options)
        with transaction.atomic():
            applied = [
                (each.path, services.apply_definition(organization, each.spec, source=each.source)) for each in read
            ]
        self._published([each.flow.slug for _, each in applied if each.changed or each.unarchived])
        if options["as_json"]:
            self.print_json(
                [
                    {"file": str(path), "flow": each.flow.slug, "version": each.version.number, "changed": each.changed,
                     "unarchived": each.unarchived}
                    for path, each in applied
                ]
            )  # fmt: skip
            return
        for _, each in applied:
            what = "published" if each.changed else "unchanged"
            back = "; it was archived, and is back" if each.unarchived else ""
            self.stdout.write(f"{each.flow.slug}: version {each.version.number} {what}{back}")

    def _export(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        found = selectors.flows(organization)
        if options["slugs"]:  # an archived one is exported where it is named
            found += selectors.flows(organization, archived=True)
        flows = {each.flow.slug: each.flow.current for each in found if each.flow.current}
        for slug in options["slugs"]:
            if slug not in flows:
                raise FlowNotFound(f"There is no published flow {slug!r}.")
        chosen = [flows[slug] for slug in options["slugs"] or flows]
        form = "json" if options["as_json"] else options["format"]
        self.stdout.write("---\n".join(_text(version, form) for version in chosen))

    def _list(self, options: dict[str, Any]) -> None:
        found = selectors.flows(self.organization(options), archived=options["archived"])
        if options["as_json"]:
            self.print_json([
                {"slug": each.flow.slug, "name": each.flow.name,
                 "version": each.flow.current.number if each.flow.current else None,
                 "triggers": [str(trigger) for trigger in each.flow.triggers.all()], "liveRuns": each.live_runs,
                 "archivedAt": each.flow.archived_at}
                for each in found
            ])  # fmt: skip
            return
        rows = table("flow", "version", "triggers", "live runs", "name")
        for each in found:
            version = str(each.flow.current.number) if each.flow.current else "–"
            triggers = ", ".join(map(str, each.flow.triggers.all())) or "by hand"
            rows.add_row(each.flow.slug, version, triggers, str(each.live_runs), each.flow.name)
        self.console.print(rows)

    def _archive(self, options: dict[str, Any]) -> None:
        flow = archiving.archive(self.organization(options), options["slug"], by=BY)
        self.doing("flow", flow.slug)
        self._say(options, {"flow": flow.slug, "archived": True}, f"{flow.slug}: archived; it starts nothing any more")

    def _unarchive(self, options: dict[str, Any]) -> None:
        flow = archiving.unarchive(self.organization(options), options["slug"], by=BY)
        self.doing("flow", flow.slug)
        self._say(options, {"flow": flow.slug, "archived": False}, f"{flow.slug}: back, with its triggers")

    def _delete(self, options: dict[str, Any]) -> None:
        organization, slug, history = self.organization(options), options["slug"], options["history"]
        if not options["yes"]:
            self._confirm(f"Delete the flow {slug!r}" + (" with ALL its history?" if history == "delete" else "?"))
        removal = archiving.delete(organization, slug, history=history, by=BY)
        self.doing("flow", slug)
        done = removal.is_done
        while not done:
            time.sleep(LOOK_AGAIN_S)  # for a transaction that is open, or for the leader, which deletes too
            flow = Flow.objects.filter(organization=organization, slug=slug).first()
            done = flow is None or archiving.go_on(flow, budget_s=archiving.TURN_S)
        text = f"{slug}: deleted with its history" if history == "delete" else f"{slug}: archived; its history is kept"
        self._say(options, {"flow": slug, "history": history, "done": True}, text)

    def _confirm(self, question: str) -> None:
        """Raises CommandError unless a person says yes."""
        try:
            answer = input(f"{question} Type yes: ")
        except (EOFError, RuntimeError, UnicodeDecodeError):  # no standard input, or none that a person has typed
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("Nothing was done. (--yes does not ask.)")

    def _say(self, options: dict[str, Any], value: dict[str, Any], text: str) -> None:
        if options["as_json"]:
            self.print_json(value)
        else:
            self.stdout.write(text)
