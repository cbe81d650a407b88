"""The verbs of `secret` about payloads: `encrypt-payloads | decrypt-payloads | rotate-payloads | count-payloads`."""

from __future__ import annotations

from typing import Any

from workflows.errors import InvalidInput
from workflows.management.output import HeadraceCommand, table
from workflows.sealing import envelope
from workflows.services.access import payloads
from workflows.services.access.payloads import Rewritten
from workflows.this_process.configuration import configuration

CHANGES = ("encrypt-payloads", "decrypt-payloads", "rotate-payloads")
READS = "count-payloads"


def add_verbs(command: HeadraceCommand, verbs: Any) -> None:
    """Add them to a command."""
    for verb, what in (
        ("encrypt-payloads", "store payloads of --org encrypted from now on, and encrypt those that are stored"),
        ("decrypt-payloads", "store payloads of --org in clear from now on, and decrypt those that are stored"),
    ):
        command.add_verb(verbs, verb, what).add_argument(
            "--new-only", action="store_true", help="leave what is stored already as it is"
        )
    command.add_verb(verbs, "rotate-payloads", "write payloads of every organization with the newest encryption key")
    command.add_verb(verbs, READS, "count payloads of --org in clear and under each key; reads all of them")


def handle(command: HeadraceCommand, options: dict[str, Any]) -> None:
    """Do what the verb says. Exit code 1 where something is left that no key opens."""
    verb = options["verb"]
    if verb == READS:
        _say(command, payloads.count(command.organization(options)), options)
    elif verb == "rotate-payloads":
        command.doing("payloads")
        _say(command, payloads.rotate(), options)
    else:
        _switch(command, options, on=verb == "encrypt-payloads")


def _switch(command: HeadraceCommand, options: dict[str, Any], *, on: bool) -> None:
    organization = command.organization(options)
    if not on and configuration().encrypt_payloads:
        raise InvalidInput(
            "HEADRACE_ENCRYPT_PAYLOADS is set for the whole installation: take it away, restart all processes, and "
            "call this again."
        )
    payloads.switch_to(organization, on=on)
    command.doing("organization", organization.slug)
    if not options["new_only"]:
        payloads.wait_until_known()
        _say(command, payloads.rewrite(organization), options)
    elif options["as_json"]:
        command.print_json({"organization": organization.slug, "encrypted": on})
    else:
        command.stdout.write(
            f"{organization.slug}: what comes from now on is stored {'encrypted' if on else 'in clear'}."
        )


def _say(command: HeadraceCommand, result: Rewritten, options: dict[str, Any]) -> None:
    newest = envelope.keys().current()[0].name
    if options["as_json"]:
        command.print_json({
            "rows": result.rows, "changed": result.changed, "newestKey": newest, "inClear": result.by_key[""],
            "byKey": {key: number for key, number in sorted(result.by_key.items()) if key},
            "unreadable": result.unreadable_count, "places": result.unreadable,
        })  # fmt: skip
    else:
        rows = table("payloads", "number")
        rows.add_row("in clear", f"{result.by_key['']:,}")
        for key, number in sorted(result.by_key.items()):
            if key:
                rows.add_row(f"under the key {key}{' (the newest)' if key == newest else ''}", f"{number:,}")
        command.console.print(rows)
        if options["verb"] != READS:
            command.stdout.write(f"{result.changed:,} changed.")
        for place in result.unreadable:
            command.stdout.write(f"  {place}")
    if result.unreadable_count:
        raise SystemExit(1)
