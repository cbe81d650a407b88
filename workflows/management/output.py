"""What the commands share: the organization option, and tables or JSON on standard output."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DataError

from throttling.errors import ThrottlingError
from workflows.edge.extras import extra
from workflows.edge.unavailable import command_sentence, missing_service
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.payload import parse, text_fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 220
MAX_SHOWN = 200


class HeadraceCommand(BaseCommand):
    """A command with `--json` and `--org`; errors of the project become one clear line."""

    requires_system_checks = ()  # they import the web, which takes half a second; `up`, `check` and CI run them

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
            return super().execute(*args, **options)
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

    def organization(self, options: dict[str, Any]) -> Organization:
        found = Organization.objects.filter(slug=options["org"]).first()
        if found is None:
            raise CommandError(
                f"There is no organization {options['org']!r}; `manage.py organization create` makes one."
            )
        return found

    @property
    def console(self) -> Console:
        width = None if self.stdout.isatty() else WIDTH  # nothing is cut off on its way to a file or another program
        made: Console = extra("rich.console", "cli").Console(file=self.stdout, soft_wrap=True, width=width)
        return made

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _refuse_unreadable(options: dict[str, Any]) -> None:
    """Raises CommandError for a text that holds what no text here may hold (a byte that is not in UTF-8)."""
    for name, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str | Path) and (found := text_fault(str(text))):
                raise CommandError(f"{name}: the text holds {found}.")


def json_argument(text: str, name: str) -> Any:
    """The value of an option that is JSON; `-` reads standard input. Raises CommandError."""
    source = sys.stdin.read() if text == "-" else text
    try:
        return parse(source.encode(), what=name)
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
