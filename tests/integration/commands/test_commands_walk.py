"""Every command with nonsense in every argument: a sentence, never a traceback; a new command is walked by itself."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from tests.conftest import lift_limits
from tests.support.admin_site import staff
from tests.support.volume import share
from tests.support.workers import leave_nothing, publish
from workflows import services
from workflows.management.output import HeadraceCommand
from workflows.models import Organization, Secret

OURS = ("workflows", "dlq", "config", "devtools", "throttling")
COMMANDS = sorted(
    name
    for name, app in get_commands().items()
    if app in OURS and isinstance(load_command_class(app, name), HeadraceCommand)
)
NONSENSE = [
    "", "x", "²", "-1", "0", "nan", "inf", "1e309", "9" * 400, "99999999999999999999", "\udcff", "a\nb", "💩", "{", "[" * 5000,
    "0001-01-01T00:00:00+23:59", "01234567-0000-7000-8000-000000000000", "1/0s", "0/1s", "5/s", "99999999999/1s",
    "1/99999999999d", "/nowhere", "-9" * 30, "null", "'; --", "%", "x" * 5_000, "[not bold]", "[/]", "a=", "a=-1s",
]  # fmt: skip
NEVER = {"--wait", "--settings", "--pythonpath", "--help", "--version"}
BASE = {"-h", "--help", "--version", "-v", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color",
        "--force-color", "--skip-checks"}  # fmt: skip
Place = tuple[str, tuple[str, ...], argparse.Action]


def verbs(name: str) -> Iterator[tuple[tuple[str, ...], list[argparse.Action]]]:
    """The command's verbs (`("list",)`, or `()` for the command itself), each with its arguments."""
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    choices = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not choices:
        yield (), parser._actions
    for each in choices:
        for verb, sub in each.choices.items():
            yield (verb,), sub._actions


def is_ours(action: argparse.Action) -> bool:
    return not set(action.option_strings) & BASE and not isinstance(action, argparse._SubParsersAction)


def fine(action: argparse.Action) -> list[str]:
    """A value for an argument that is required."""
    value = "01234567-0000-7000-8000-000000000000"
    if action.choices:
        value = str(next(iter(action.choices)))
    elif action.dest in {"flow", "slug"}:
        value = "walked"
    return [action.option_strings[0], value] if action.option_strings else [value]


def lines(name: str) -> Iterator[list[str]]:
    """Command lines: nonsense in one argument at a time, the others as they should be."""
    for verb, actions in verbs(name):
        mine = [each for each in actions if is_ours(each)]
        required = [each for each in mine if each.required and (each.option_strings or each.nargs != "?")]
        yield [*verb]
        for action in mine:
            takes_value = action.nargs != 0
            for text in NONSENSE if takes_value else [""]:
                line = [*verb]
                for other in required:
                    if other is not action:
                        line += fine(other)
                if not action.option_strings:
                    line += ["--", text] if text.startswith("-") else [text]
                else:
                    line += [f"{action.option_strings[0]}={text}"] if takes_value else [action.option_strings[0]]
                yield line


@pytest.fixture
def walked(org: Organization) -> Iterator[Organization]:
    publish(org, [{"id": "a", "type": "noop"}], slug="walked")
    services.trigger(org, "walked", delay="1h")
    yield org
    lift_limits()  # `limits unset --global` does what it says
    leave_nothing(org)


@pytest.mark.parametrize("name", COMMANDS)
def test_nonsense_is_answered_with_a_sentence(name: str, walked: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    faults, tried = [], 0
    for line in share(lines(name), of=name):
        if set(line) & NEVER or name == "loadtest":
            continue
        tried += 1
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        org = [] if any(each.startswith("--org") for each in line) else ["--org", walked.slug]
        unwaited = ["--no-wait"] if _waits(name, line) else []  # no leader is here that would do it
        fault = _fault(name, [*org, *line, *unwaited])
        if fault:
            faults.append(f"{name} {' '.join(line)[:120]!r}: {fault}")
    assert not faults, f"{len(faults)} of {tried}:\n" + "\n".join(faults[:40])


def _waits(name: str, line: list[str]) -> bool:
    follows = {"runs": {"cancel", "replay"}, "dlq": {"replay", "ignore"}, "bulk": {"resume"}}
    return bool(follows.get(name, set()) & set(line[:1])) and "--no-wait" not in line and "--" not in line


def _fault(name: str, line: list[str]) -> str:
    try:
        call_command(name, *line, stdout=io.StringIO(), stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        text = str(error)
        return "an empty sentence" if isinstance(error, CommandError) and not text.strip() else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


@pytest.mark.parametrize("given", ["", "\n", "   ", " \n \n"])
def test_an_empty_secret_is_refused(org: Organization, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(CommandError, match="is empty"):
        call_command("secret", "--org", org.slug, "set", "TOKEN")
    assert not Secret.objects.filter(organization=org).exists()


@pytest.mark.parametrize("value", ["a long value", " with spaces ", "two\nlines"])
def test_a_secret_is_stored_as_it_was_given(org: Organization, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{value}\n"))
    call_command("secret", "--org", org.slug, "set", "TOKEN")
    assert Secret.objects.get(organization=org).value == value


def test_the_admin_refuses_an_empty_secret(org: Organization) -> None:
    boss = staff(superuser=True)
    sent: dict[str, Any] = {"organization": str(org.id), "name": "TOKEN", "value": "   "}
    assert "is empty" in boss.post("/admin/headrace_workflows/secret/add/", sent).content.decode()
    sent |= {"name": "no-name", "value": " kept as it is "}
    assert "a name has letters" in boss.post("/admin/headrace_workflows/secret/add/", sent).content.decode()
    assert boss.post("/admin/headrace_workflows/secret/add/", {**sent, "name": "TOKEN"}).status_code == 302
    assert Secret.objects.get(organization=org).value == " kept as it is "
