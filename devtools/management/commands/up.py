"""`up`: everything, from one command."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from config import env
from devtools import embedded, instance
from devtools.processes import Ports, ProcessGroup, StartError, clear_leftovers, is_up, keep_services
from workflows import selectors
from workflows.engine.pipeline import admit
from workflows.models import Organization


class Command(BaseCommand):
    help = "Start web, workers, beat and Flower in one supervised group. Ctrl-C stops all of it."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        ports = Ports(env.read().port)
        services = embedded.use() or embedded.current()
        try:
            if not is_up(settings.VAR_DIR):
                clear_leftovers(settings.VAR_DIR)
            ports.check_free()
            credentials = instance.prepare(
                base_url=f"http://127.0.0.1:{ports.web}", example_server=f"http://127.0.0.1:{ports.examples}"
            )
            group = ProcessGroup(
                settings.VAR_DIR, ports, f"{credentials.username}:{credentials.password}", self.stdout.write
            )
        except StartError as error:
            raise CommandError(str(error)) from None
        try:
            if not stop.is_set():
                group.start()
                self._announce(ports, credentials)
            while not stop.wait(1.0):
                keep_services(services, self.stdout.write)
                if not group.is_running:
                    raise CommandError("The supervisor has stopped; see the logs.")
        except StartError as error:
            raise CommandError(str(error)) from None
        finally:
            self.stdout.write("stopping …")
            group.stop()
            if services is not None:
                services.release()
            self.stdout.write("stopped")

    def _announce(self, ports: Ports, credentials: instance.Credentials) -> None:
        rows = Table(box=None, show_header=False, pad_edge=False)
        base = credentials.base_url
        for name, value in (
            ("Dashboard", f"{base}/"),
            ("Admin", f"{base}/admin/"),
            ("API docs", f"{base}/api/docs"),
            ("Flower", f"http://127.0.0.1:{ports.flower}/"),
            ("Login", f"{credentials.username} / {credentials.password}"),
            ("API key", credentials.api_key),
            ("Event key", credentials.event_key),
            ("Limits", _limits()),
            ("Kept in", str(settings.VAR_DIR / "credentials.json")),
            ("Logs", str(settings.VAR_DIR / "log")),
        ):
            rows.add_row(f"[bold]{name}[/]", value)
        console = Console(file=self.stdout, soft_wrap=True)  # type: ignore[arg-type]
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


def _limits() -> str:
    """The global limits, since the shipped ones are cautious."""
    whole = admit.policies().globals()
    seconds = whole.rate.per_ms / 1000
    return (
        f"{whole.concurrency} steps at once, {whole.rate.max_executions} starts per {seconds:g} s over all "
        "(docs/howto/limit_what_runs.md)"
    )
