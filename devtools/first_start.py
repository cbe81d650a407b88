"""The part of `up` that needs the application: `python -m devtools.first_start <web> <flower> <examples>` (ports).

It migrates, creates what is missing, and prints a line of JSON (`Settled`) for `up`.
"""

from __future__ import annotations

import io
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402  (needs the apps, as do the next ones)
from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from devtools import instance  # noqa: E402
from devtools.settled import Settled  # noqa: E402
from workflows import selectors  # noqa: E402
from workflows.edge.unavailable import command_sentence, missing_service  # noqa: E402
from workflows.engine.pipeline import admit  # noqa: E402
from workflows.models import Organization  # noqa: E402


def settle(web: int, flower: int, examples: int) -> Settled:
    """Check and migrate, and create what is missing."""
    call_command("check", stdout=io.StringIO())
    credentials = instance.prepare(base_url=f"http://127.0.0.1:{web}", example_server=f"http://127.0.0.1:{examples}")
    return Settled(
        basic_auth=f"{credentials.username}:{credentials.password}", announcement=_announcement(credentials, flower)
    )


def _announcement(credentials: instance.Credentials, flower: int) -> str:
    rows = Table(box=None, show_header=False, pad_edge=False)
    base = credentials.base_url
    for name, value in (
        ("Dashboard", f"{base}/"),
        ("Admin", f"{base}/admin/"),
        ("API docs", f"{base}/api/docs"),
        ("Flower", f"http://127.0.0.1:{flower}/"),
        ("Login", f"{credentials.username} / {credentials.password}"),
        ("API key", credentials.api_key),
        ("Event key", credentials.event_key),
        ("Limits", _limits()),
        ("Kept in", str(settings.VAR_DIR / "credentials.json")),
        ("Logs", str(settings.VAR_DIR / "log")),
    ):
        rows.add_row(f"[bold]{name}[/]", value)
    text = io.StringIO()
    console = Console(file=text, soft_wrap=True)
    console.print("\n[bold green]Headrace is up.[/]\n")
    console.print(rows)
    organization = Organization.objects.get(slug="default")
    console.print("\n[bold]Published flows[/]")
    for each in selectors.flows(organization):
        flow = each.flow
        starts = ", ".join(str(trigger) for trigger in flow.triggers.all()) or "by hand or API"
        console.print(f"  {flow.slug} v{flow.current.number if flow.current else '–'}  ({starts})")
    console.print(
        f"\nTry: curl -X POST {base}/api/workflows/demo-task/run -H 'Authorization: Bearer {credentials.api_key}'"
        ' -H \'Content-Type: application/json\' -d \'{"triggerData": {"taskId": "first"}}\'\n\nCtrl-C stops it.',
        highlight=False,
    )
    return text.getvalue()


def _limits() -> str:
    """The global limits, since the shipped ones are cautious."""
    whole = admit.policies().globals()
    seconds = whole.rate.per_ms / 1000
    return (
        f"{whole.concurrency} steps at once, {whole.rate.max_executions} starts per {seconds:g} s over all "
        "(docs/howto/limit_what_runs.md)"
    )


def main() -> None:
    """Print what `up` needs; where a service is missing, say which."""
    try:
        sys.stdout.write(settle(*map(int, sys.argv[1:4])).text() + "\n")
    except CommandError as error:
        sys.exit(f"headrace: {error}")
    except Exception as error:
        service = missing_service(error)
        if not service:
            raise
        sys.exit(f"headrace: {command_sentence(service, error)}")


if __name__ == "__main__":
    main()
