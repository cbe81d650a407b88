"""What the commands share: the organization option, and tables or JSON on standard output."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DataError, transaction

from throttling.errors import ThrottlingError
from workflows.edge.extras import extra
from workflows.edge.unavailable import command_sentence, missing_service
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization
from workflows.payload import parse, text_fault
from workflows.presenters import redaction
from workflows.services.access import audit, changes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NOT_OF_A_VERB = frozenset({
    "verb", "as_json", "org", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color",
    "skip_checks", "stdout", "stderr",
})  # fmt: skip
"""Options that say nothing of what is changed."""
READS = "It only reads."
IN_PART = "in part"
"""How a command ended that failed, or was stopped, after it had begun to change things."""
WIDTH = 220
MAX_SHOWN = 200
MAX_INPUT_BYTES = 8 * 1024 * 1024
"""As much as a request may have."""
TOO_MUCH = f"more than {MAX_INPUT_BYTES // 1024**2} MiB: send it in parts"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a command does, for the audit log: to what, and in whose organization (None: in no one's, or in all)."""

    kind: str
    id: str
    org_id: UUID | None


class HeadraceCommand(BaseCommand):
    """A command with `--json` and `--org`; errors of the project become one clear line."""

    requires_system_checks = ()  # they import the web, which takes half a second; `up`, `check` and CI run them
    _owner: Organization | None = None
    """Whose data is printed, and changed unless `doing` names another one."""
    _change: Change | None = None
    _changed_nothing = False
    changes: Collection[str] = ()
    """The verbs that change something, each in one transaction with its entry in the audit log."""
    changes_by_parts: Collection[str] = ()
    """Those that have several transactions, or ask a person: the entry is written at the end."""
    not_audited: ClassVar[Mapping[str, str]] = {}
    """The other verbs, each with the reason; `''` is a command without verbs."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
        parser.add_argument("--org", default="default", help="the organization's slug (default: default)")

    def add_verb(self, verbs: Any, name: str, text: str) -> CommandParser:
        """A verb that takes `--json` and `--org` after its name too."""
        verb: CommandParser = verbs.add_parser(name, help=text)
        verb.add_argument("--json", action="store_true", dest="as_json", default=SUPPRESS, help=SUPPRESS)
        verb.add_argument("--org", default=SUPPRESS, help=SUPPRESS)
        return verb

    def execute(self, *args: Any, **options: Any) -> str | None:
        _refuse_unreadable(options)
        try:
            with changes.collected():
                return self._audited(args, options)
        except (WorkflowsError, ThrottlingError) as error:
            service = missing_service(error)
            raise CommandError(command_sentence(service, error) if service else str(error)) from None
        except ValidationError as error:  # of a model's field
            raise CommandError(" ".join(error.messages)) from None
        except DataError as error:
            raise CommandError(f"A value can't be stored: {str(error).partition(chr(10))[0]}.") from None
        except OSError as error:
            if error.filename is None:
                raise
            raise CommandError(f"{str(error.filename)[:MAX_SHOWN]}: {error.strerror}.") from None
        except Exception as error:
            service = missing_service(error)
            if not service:
                raise
            raise CommandError(command_sentence(service, error)) from None

    def _audited(self, args: Any, options: dict[str, Any]) -> str | None:
        """The command's output; what it has changed is in the audit log then."""
        verb = str(options.get("verb") or "")
        self._owner, self._change, self._changed_nothing = None, None, False
        if verb in self.changes and not options.get("dry_run"):
            with transaction.atomic():
                said = super().execute(*args, **options)
                self._write_down(verb, options)
                return said
        by_parts = verb in self.changes_by_parts and not options.get("dry_run")
        try:
            said = super().execute(*args, **options)
        except BaseException as error:  # Ctrl-C too
            is_begun = self._change is not None and not isinstance(error, InvalidInput)
            if by_parts and (is_begun or isinstance(error, SystemExit)):
                self._write_down(verb, {**options, "ended": IN_PART})
            raise
        if by_parts:
            self._write_down(verb, options)
        return said

    def _write_down(self, verb: str, options: dict[str, Any]) -> None:
        if self._changed_nothing:
            return
        name = self.__module__.rpartition(".")[2]
        made = self._change or Change(kind="", id="", org_id=self._owner.id if self._owner else None)
        given = {
            key: value
            for key, value in options.items()
            if key not in NOT_OF_A_VERB and value not in (None, "", False, [], ())
        }
        done = f"{name}.{verb}".rstrip(".")
        audit.record(made.org_id, audit.of_command(), done, kind=made.kind, id=made.id, details=given)

    def doing(
        self,
        kind: str,
        id: object = "",  # noqa: A002
        *,
        owner: Organization | None = None,
        of_all: bool = False,
    ) -> None:
        """Say what is changed, for the audit log. It is written even where the command fails from here on.

        `owner`: the organization in which it is done, where that is not the one of `--org`; `of_all`: in all of them.
        """
        whose = None if of_all else owner or self._owner
        self._change = Change(kind=kind, id=str(id), org_id=whose.id if whose else None)

    def changed_nothing(self) -> None:
        """Say that the verb only showed something this time: nothing is written down."""
        self._changed_nothing = True

    def organization(self, options: dict[str, Any]) -> Organization:
        found = Organization.objects.filter(slug=options["org"]).first()
        if found is None:
            raise CommandError(
                f"There is no organization {options['org']!r}; `manage.py organization create` makes one."
            )
        self._owner = found
        return found

    @property
    def console(self) -> Console:
        width = None if self.stdout.isatty() else WIDTH  # nothing is cut off on its way to a file or another program
        made: Console = extra("rich.console", "cli").Console(file=self.stdout, soft_wrap=True, width=width)
        return made

    def print_json(self, value: Any) -> None:
        if self._owner is not None and self._owner.redaction:
            value = redaction.answer(self._owner.id, json.loads(json.dumps(value, default=str)))
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _refuse_unreadable(options: dict[str, Any]) -> None:
    """Raises CommandError for a text that holds what no text here may hold (a byte that is not in UTF-8)."""
    for name, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str | Path) and (found := text_fault(str(text))):
                raise CommandError(f"{name}: the text holds {found}.")


def standard_input() -> bytes:
    """What standard input has. Raises CommandError where there is none, and for more than a request may have."""
    if sys.stdin is None:
        raise CommandError("There is no standard input: it is closed.")
    stream = getattr(sys.stdin, "buffer", None)  # none where a program has put a text in its place
    wanted = MAX_INPUT_BYTES + 1
    found: bytes = sys.stdin.read(wanted).encode("utf-8", "surrogateescape") if stream is None else stream.read(wanted)
    if len(found) > MAX_INPUT_BYTES:
        raise CommandError(f"Standard input has {TOO_MUCH}.")
    return found


def json_argument(text: str, name: str) -> Any:
    """The value of an option that is JSON; `-` reads standard input. Raises CommandError."""
    try:
        return parse(standard_input() if text == "-" else text.encode(), what=name)
    except UnicodeEncodeError:
        raise CommandError(f"{name} is no JSON: it is not in UTF-8") from None
    except WorkflowsError as error:
        raise CommandError(str(error)) from None


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these columns."""
    made: Table = extra("rich.table", "cli").Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for position, column in enumerate(columns):
        made.add_column(column, no_wrap=position == 0)
    return made
