"""The reference pages, each made from the code that it describes."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
from collections.abc import Callable

from django.core.management import get_commands, load_command_class
from pydantic import BaseModel

from throttling import clocks
from throttling.defaults import BY_TYPE, CRITICAL_BY_TYPE, GLOBAL, NO_SIZE, PRESETS, SHIPPED_SIZE, SIZES
from throttling.limits import StepPolicy
from throttling.retry import RetryPolicy
from workflows.duration import format_ms
from workflows.engine.retention.pacing import ROWS_PER_S
from workflows.engine.retention.subjects import SUBJECTS
from workflows.engine.state.transitions import RUN_TRANSITIONS, STEP_TRANSITIONS, Transition
from workflows.management.reference_api import api_page
from workflows.management.reference_forms import page, rows_of, type_of
from workflows.management.reference_functions import python_flows
from workflows.steps.registry import REGISTRY
from workflows.this_process.configuration import CELERY, ELSEWHERE, HERE

COMMANDS = (
    "trigger",
    "events",
    "runs",
    "dlq",
    "bulk",
    "alerts",
    "flows",
    "limits",
    "pauses",
    "loadtest",
    "organization",
    "secret",
    "retention",
    "prune",
    "doctor",
    "reference",
)


def state_machine() -> str:
    """The states and who may change them, as in `workflows/engine/state/transitions/`."""
    return page(
        "State machine",
        "Only the modules of `workflows/engine/state/transitions/` call the statements that write a status or insert runs "
        "and steps. Each change below is one guarded statement.",
        "## Steps of a run\n\n" + _diagram(STEP_TRANSITIONS),
        "## Runs\n\nA run of which nothing is ready or running is shown as *waiting*.\n\n" + _diagram(RUN_TRANSITIONS),
    )


def _diagram(transitions: tuple[Transition, ...]) -> str:
    lines = [f"    {t.source or '[*]'} --> {t.target}: {t.verb}" for t in transitions]
    sources = {t.source for t in transitions}
    final = sorted({t.target for t in transitions} - sources)
    lines += [f"    {state} --> [*]" for state in final]
    table = rows_of(("verb", "from", "to"), ((t.verb, t.source or "(new)", t.target) for t in transitions))
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n\n" + table


def step_types() -> str:
    """The step types, with every field of their configuration."""
    parts = []
    for name, step_type in sorted(REGISTRY.items()):
        if not step_type.handler.__module__.startswith("workflows."):
            continue  # of a module of one's own
        default = BY_TYPE.get(name, GLOBAL)
        facts = (
            f"Queue `{step_type.queue}`, at most {step_type.max_batch} to a message, times out after "
            f"{format_ms(step_type.timeout_ms)} by default, retried {default.retry}."
        )
        parts.append(
            f"## `{name}`\n\n{step_type.summary} {facts}\n\n{inspect.getdoc(step_type.config_model)}\n\n"
            + _fields(step_type.config_model)
        )
    return page("Step types", *parts)


def _fields(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    required = set(schema.get("required", []))
    defaults = {
        field.alias or name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if field.default_factory
    }
    rows = (
        (
            f"`{name}`",
            type_of(field, schema),
            "required" if name in required else f"`{json.dumps(field.get('default', defaults.get(name)))}`",
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    )
    return rows_of(("field", "type", "default", ""), rows)


def policies() -> str:
    """The shipped policy table."""
    rows = [("all steps (global)", GLOBAL), *sorted(BY_TYPE.items())]
    rows += [
        (f"{name}, where `critical: true` is written", policy) for name, policy in sorted(CRITICAL_BY_TYPE.items())
    ]
    return page(
        "Shipped policies",
        "What holds unless the environment, a definition or an override says otherwise "
        "([Limit what runs](../howto/limit_what_runs.md)). Types are counted for each organization by itself; the global "
        "limits are shared by all.",
        rows_of(("step types", "concurrency", "rate", "attempts", "back-off"), (_policy(*row) for row in rows)),
        f"## Sizes\n\nOf whole runs. `{SHIPPED_SIZE}` in new databases, unless `HEADRACE_SIZE` names another.\n\n"
        + rows_of(
            ("`HEADRACE_SIZE`", "runs at once", "starts of runs"),
            iter(
                [
                    *((f"`{size}`", str(runs), str(starts)) for size, (runs, starts) in SIZES.items()),
                    (f"`{NO_SIZE}`", "any number", "any number"),
                ]
            ),
        ),
        "## Named retry presets\n\n"
        + rows_of(
            ("preset", "attempts", "back-off"),
            ((f"`{name}`", str(preset.max_attempts), _backoff(preset)) for name, preset in PRESETS.items()),
        ),
    )


def _policy(name: str, policy: StepPolicy) -> tuple[str, ...]:
    return (name, str(policy.concurrency), str(policy.rate), str(policy.retry.max_attempts), _backoff(policy.retry))


def _backoff(retry: RetryPolicy) -> str:
    return "none" if retry.backoff == "none" else f"{retry.backoff} from {format_ms(retry.delay_ms)}"


def settings_page() -> str:
    """The environment variables, as read in the code."""
    return page(
        "Settings",
        "All settings come from the environment. In a project that has the package installed, its setting `HEADRACE` may "
        "have them ([how](../howto/add_to_your_project.md#settings)), by these names: "
        + ", ".join(f"`{name}`" for name in sorted(HERE | ELSEWHERE | {CELERY}))
        + ".",
        rows_of(("variable", "default", "meaning"), (dataclasses.astuple(setting) for setting in SETTINGS)),
    )


@dataclasses.dataclass(frozen=True)
class Setting:
    name: str
    default: str
    meaning: str


SETTINGS = (
    Setting(
        "`DATABASE_URL`", "embedded Postgres", "Postgres, as libpq takes it: `postgresql://user:password@host/name`."
    ),
    Setting("`REDIS_URL`", "embedded Valkey", "Redis ≥ 6.2 or Valkey; set both addresses, or neither."),
    Setting(
        "`HEADRACE_REDIS_PREFIX`", "`headrace`", "Begins the store's keys: one for each deployment that shares it."
    ),
    Setting("`BROKER_URL`", "`REDIS_URL`", "Celery's broker: `redis://…` or `amqp://…` (RabbitMQ)."),
    Setting(
        "`HEADRACE_SECRET_KEY`", "made at the first embedded start", "Django's secret key; required in production."
    ),
    Setting(
        "`HEADRACE_ENCRYPTION_KEY`",
        "`HEADRACE_SECRET_KEY`",
        "Encrypts stored secrets; it holds no comma. A new one takes the old one into `HEADRACE_ENCRYPTION_KEYS_OLD`, and then `manage.py secret rotate`.",
    ),
    Setting(
        "`HEADRACE_ENCRYPTION_KEYS_OLD`",
        "none",
        "Encryption keys of before, with commas: they open what they encrypted, and encrypt nothing.",
    ),
    Setting("`HEADRACE_ENCRYPT_PAYLOADS`", "`0`", "`1`: payloads of all organizations are stored encrypted."),
    Setting(
        "`HEADRACE_SECRET_<ORG>__<NAME>`",
        "none",
        "A secret of an organization from the environment: its slug in capitals, `_` for `-`; the database comes first.",
    ),
    Setting(
        "`HEADRACE_AWS_SECRETS_PREFIX`",
        "none",
        "With an organization's slug behind it, the name of its secret in AWS Secrets Manager (extra `aws`), a JSON object: it comes after database and environment.",
    ),
    Setting(
        "`HEADRACE_AWS_SECRET`",
        "none",
        "A secret in AWS Secrets Manager whose JSON object has variables of this page; what the environment sets wins.",
    ),
    Setting("`HEADRACE_ALLOWED_HOSTS`", "`localhost,127.0.0.1,[::1]`", "Host names that the web answers to."),
    Setting("`HEADRACE_CSRF_TRUSTED_ORIGINS`", "none", "Origins behind a proxy, with scheme."),
    Setting(
        "`HEADRACE_PUBLIC_URL`",
        "`http://localhost:<PORT>`",
        "Where this installation is reached from outside: for callback addresses and approval pages.",
    ),
    Setting(
        "`HEADRACE_ALLOWED_PRIVATE_HOSTS`", "none", "Hosts (or host:port) on private addresses that steps may call."
    ),
    Setting(
        "`HEADRACE_ALERT_URLS`", "none", "Addresses for alerts, as apprise takes them; more of them are rows in admin."
    ),
    Setting(
        "`SENTRY_DSN`",
        "none",
        "Alerts go to this Sentry project too, and so do failures for good (with job type, event id and data, secrets "
        "masked) and ended runs as traces.",
    ),
    Setting("`SENTRY_TRACES_SAMPLE_RATE`", "1", "The share of ended runs that Sentry gets as traces; 0 for none."),
    Setting(
        "`HEADRACE_DLQ_AUTO_REPLAY_S`",
        "300",
        "After how long a rate-limited dead letter is replayed by itself; 0: never.",
    ),
    Setting("`HEADRACE_DLQ_AUTO_REPLAYS`", "3", "How often in a row."),
    Setting("`HEADRACE_VAR_DIR`", "`var`", "Where local data, logs and credentials live."),
    Setting("`PORT`", "8288", "The web's port; Flower and the examples' server take the next two."),
    Setting("`HEADRACE_LOG_FORMAT`", "`console`", "`console` or `json`."),
    Setting("`HEADRACE_LOG_LEVEL`", "`INFO`", "A level of Python's logging."),
    Setting("`HEADRACE_STEP_EVENTS`", "1", "0: workers and web do not tell Flower (and other monitors) of each step."),
    Setting("`HEADRACE_FLOWER_URL`", "none", "Where people find Flower: the dashboard links to it. `up` sets it."),
    Setting(
        "`HEADRACE_DB_POOL_SIZE`",
        "8",
        "Django's database pool per process; 0 for none. The web process answers as many requests at once; without a pool 8.",
    ),
    Setting(
        "`HEADRACE_DB_POOLER`",
        "none",
        "`transaction`: Postgres is reached through pgbouncer in that mode. Nothing is prepared then, and no setting sent.",
    ),
    Setting(
        "`HEADRACE_HTTPS`", "0", "Behind a proxy that ends TLS and sets `X-Forwarded-Proto`: secure cookies, HSTS."
    ),
    Setting("`HEADRACE_DEBUG`", "0", "Django's debug mode."),
    Setting("`HEADRACE_IO_SLOTS`", "200", "Steps that an I/O worker executes at once."),
    Setting(
        "`HEADRACE_CELERY_APP`",
        "the process's current app",
        "The Celery app whose tasks `celery_task` steps run, like `proj.celery:app`: its broker, routes and backend count.",
    ),
    Setting(
        "`HEADRACE_CELERY_TASKS`", "`*`", "Patterns of the tasks that flows may run, separated by commas: `shop.*`."
    ),
    Setting(
        "`HEADRACE_WATCHED_TASKS`", "2000", "Celery tasks of `celery_task` steps that an I/O worker watches at once."
    ),
    Setting(
        "`HEADRACE_OBSERVE`",
        "0",
        "1: the application's own Celery tasks are observed, in each process that has Headrace among its INSTALLED_APPS.",
    ),
    Setting("`HEADRACE_OBSERVE_ARGUMENTS`", "0", "1: their arguments are kept too (they may hold secrets)."),
    Setting("`HEADRACE_OBSERVE_ORG`", "the oldest", "The organization that sees them, by its slug."),
    Setting("`HEADRACE_OBSERVE_DAYS`", "7", "So many days they are kept."),
    Setting("`HEADRACE_OBSERVE_MOST`", "1000000", "And so many of them at most."),
    Setting(
        "`HEADRACE_RETENTION`", "1", "0: the leader deletes nothing that has expired; `manage.py prune` still does."
    ),
    Setting(
        "`HEADRACE_RETENTION_ROWS_PER_S`",
        f"{ROWS_PER_S}",
        "Rows that are deleted in a second at most; a tenth of them while steps wait for workers.",
    ),
    *(
        Setting(f"`{subject.variable}`", "forever" if subject.days is None else f"{subject.days:g}", subject.meaning)
        for subject in SUBJECTS.values()
    ),
    Setting("`HEADRACE_IO_THREADS`", "16", "Threads of an I/O worker for blocking handlers."),
    Setting(
        "`HEADRACE_DETACHED_THREADS`",
        "4",
        "`sandbox_async` steps at once, for each compute child; a free child takes them over those of its neighbours.",
    ),
    Setting("`HEADRACE_DRAIN_S`", "10", "Seconds that a worker lets its steps end after SIGTERM."),
    Setting(
        "`HEADRACE_MAX_CONTINUED`", "50", "Steps that a worker goes on with at once; 0 sends each through the broker."
    ),
    Setting("`HEADRACE_LEASE_S`", "10", "Seconds after which a step of a lost worker runs again (at least 2)."),
    Setting(
        "`HEADRACE_GATE_LEASE_S`",
        f"{clocks.LEASE_S:g}",
        f"Seconds after which a permit of a lost worker is free again (at least {clocks.MIN_LEASE_S:g}, and where it is "
        "set, at least `HEADRACE_LEASE_S`).",
    ),
    Setting(
        "`HEADRACE_GATE_RESERVATION_S`",
        f"{clocks.RESERVATION_S:g}",
        "Seconds in the broker after which a step that has its permits gives them back and asks again as it starts (at "
        f"least {clocks.MIN_RESERVATION_S:g}).",
    ),
    Setting("`HEADRACE_STEP_MODULES`", "none", "Modules of your own that register step types, separated by commas."),
    Setting(
        "`HEADRACE_FLOW_MODULES`",
        "none",
        "Modules with flows in Python, separated by commas, beside the module `flows` of each installed app.",
    ),
    Setting(
        "`HEADRACE_CODE_ORGANIZATION`", "`default`", "The slug of the organization that flows in Python belong to."
    ),
    Setting("`HEADRACE_FLOW_CONTROL`", "`on`", "`off` enforces no limit at all: for emergencies and comparison."),
    Setting(
        "`HEADRACE_SIZE`",
        f"`{SHIPPED_SIZE}` in new databases",
        "Run limits by the server's memory: "
        + ", ".join(f"`{size}`" for size in (*SIZES, NO_SIZE))
        + ". A database from "
        f"before this default: `{NO_SIZE}`; `doctor` says what holds.",
    ),
    Setting("`HEADRACE_GLOBAL_RUN_CONCURRENCY`", "by `HEADRACE_SIZE`", "Whole runs at once."),
    Setting("`HEADRACE_GLOBAL_RUN_RATE_LIMIT_EXECUTIONS`", "by `HEADRACE_SIZE`", "Starts of runs in a period."),
    Setting("`HEADRACE_GLOBAL_RUN_RATE_LIMIT_PERIOD_MS`", "60000", "That period."),
    Setting(
        "`INNGEST_EVENT_KEY`, `INNGEST_API_KEY`",
        "none",
        "Keys of the organization `default` that hold from the next `migrate` on: for events, and for REST (an operator's).",
    ),
    Setting(
        "`INNGEST_SIGNING_KEY`, `INNGEST_WEBHOOK_KEY`",
        "none",
        "Secrets of the organization `default` under these names: `secret: INNGEST_WEBHOOK_KEY` of a webhook.",
    ),
    Setting(
        "`INNGEST_DEV`",
        "1 with embedded services, else 0",
        "Programs on this machine need no event key. An address means 1.",
    ),
    Setting("`HEADRACE_GLOBAL_CONCURRENCY`", str(GLOBAL.concurrency), "Global concurrency (alias `INNGEST_GLOBAL_…`)."),
    Setting("`HEADRACE_GLOBAL_RATE_LIMIT_EXECUTIONS`", str(GLOBAL.rate.max_executions), "Global rate: executions."),
    Setting("`HEADRACE_GLOBAL_RATE_LIMIT_PERIOD_MS`", str(GLOBAL.rate.per_ms), "Global rate: period."),
    Setting(
        "`HEADRACE_GLOBAL_RETRY_ATTEMPTS`", str(GLOBAL.retry.max_attempts), "Attempts of steps without a type policy."
    ),
    Setting("`HEADRACE_GLOBAL_RETRY_DELAY_MS`", str(GLOBAL.retry.delay_ms), "First delay of their back-off."),
)


def cli_page() -> str:
    """The commands with their help."""
    parts = [
        "`make up` and `make demo` start everything. In the project's directory each command below is called as "
        "`.venv/bin/python manage.py …`; `--help` on any of them says more."
    ]
    for name in COMMANDS:
        command = load_command_class(get_commands()[name], name)
        parser = command.create_parser("manage.py", name)
        parts.append(
            f"## `{name}`\n\n{command.help}\n\n```\nmanage.py {name}\n{_usage(parser, f'manage.py {name} ')}\n```"
        )
    return page("Commands", *parts)


def _usage(parser: argparse.ArgumentParser, prefix: str = "") -> str:
    """The command's own arguments, and those of its verbs."""
    hidden = {
        "--version",
        "--settings",
        "--pythonpath",
        "--traceback",
        "--no-color",
        "--force-color",
        "--skip-checks",
        "-h",
        "-v",
    }
    lines, verbs = [], ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                verbs += f"\n{prefix}{name}\n" + _usage(verb, prefix)
        elif action.help != argparse.SUPPRESS and not set(action.option_strings) & hidden:
            choices = f" ({', '.join(str(c) for c in action.choices if c)})" if action.choices else ""
            lines.append(
                f"  {', '.join(action.option_strings) or action.dest}{choices}: {action.help or ''}".rstrip(" :")
            )
    return "\n".join(lines) + verbs


PAGES: dict[str, Callable[[], str]] = {
    "state_machine": state_machine,
    "step_types": step_types,
    "python_flows": python_flows,
    "policies": policies,
    "settings": settings_page,
    "api": api_page,
    "cli": cli_page,
}
