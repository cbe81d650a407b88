"""What Headrace itself is told: by the settings of the Django project (`HEADRACE = {...}`) or by the environment.

The project's settings win. A key of `HEADRACE` is the name of an environment variable, without `HEADRACE_` where the
variable begins with it, and takes what the variable takes, or a number, a switch or a list of the same meaning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from throttling import clocks
from throttling.environment import seconds, step_lease_s, whole_number
from throttling.errors import EnvironmentValueError
from workflows import this_process

DEFAULT_PORT = 8288
PRESET_KEYS = ("INNGEST_EVENT_KEY", "INNGEST_API_KEY", "INNGEST_SIGNING_KEY", "INNGEST_WEBHOOK_KEY")
OF_OTHERS = frozenset(
    {"REDIS_URL", "BROKER_URL", "SENTRY_DSN", "SENTRY_TRACES_SAMPLE_RATE", "INNGEST_DEV", *PRESET_KEYS}
)
"""Variables that do not begin with HEADRACE_: they are read by the project too, so they are never set here."""
HERE = frozenset({
    "ALERT_URLS", "ALLOWED_PRIVATE_HOSTS", "AWS_SECRETS_PREFIX", "DB_POOLER", "DB_POOL_SIZE", "ENCRYPT_PAYLOADS",
    "ENCRYPTION_KEY", "ENCRYPTION_KEYS_OLD", "FLOWER_URL", "GATE_LEASE_S", "GATE_RESERVATION_S", "PUBLIC_URL",
    "REDIS_PREFIX", "STEP_EVENTS", *OF_OTHERS,
})  # fmt: skip
"""Keys that `read` takes."""
ELSEWHERE = frozenset({
    "CELERY_APP", "CELERY_TASKS", "CODE_ORGANIZATION", "DETACHED_THREADS", "DLQ_AUTO_REPLAYS", "DLQ_AUTO_REPLAY_S",
    "DRAIN_S", "FLOW_CONTROL", "FLOW_MODULES", "GLOBAL_CONCURRENCY", "GLOBAL_RATE_LIMIT_EXECUTIONS",
    "GLOBAL_RATE_LIMIT_PERIOD_MS", "GLOBAL_RETRY_ATTEMPTS", "GLOBAL_RETRY_DELAY_MS", "GLOBAL_RUN_CONCURRENCY",
    "GLOBAL_RUN_RATE_LIMIT_EXECUTIONS", "GLOBAL_RUN_RATE_LIMIT_PERIOD_MS", "IO_SLOTS", "IO_THREADS", "LEASE_S",
    "MAX_CONTINUED", "OBSERVE", "OBSERVE_ARGUMENTS", "OBSERVE_DAYS", "OBSERVE_MOST", "OBSERVE_ORG", "SIZE",
    "RETENTION", "RETENTION_ROWS_PER_S", "STEP_MODULES", "WATCHED_TASKS",
    *(f"RETENTION_{name}_DAYS" for name in (
        "COMPLETED", "FAILED", "CANCELLED", "EVENTS", "LOGS", "OUTCOMES", "LETTERS", "CRON_FIRES", "OPERATIONS",
        "ALERTS", "VERSIONS", "LIMIT_HISTORY", "AUDIT", "TASK_RESULTS", "SESSIONS",
    )),
})  # fmt: skip
"""Keys of what modules read from the environment when they are imported: `export` sets their variables."""
CELERY = "CELERY"
"""The key of what Headrace's own Celery app is told besides, by Celery's names in lower case."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What Headrace itself was told."""

    redis_url: str
    redis_prefix: str
    broker_url: str
    gate_lease_s: float
    gate_reservation_s: float
    encryption_key: str
    encryption_keys_old: tuple[str, ...]
    """Keys of before, which still open what they have encrypted."""
    encrypt_payloads: bool
    """Whether the payloads of all organizations are stored encrypted, whatever each of them says."""
    aws_secrets_prefix: str
    """With the slug of an organization behind it, the name of its secret in AWS; empty: AWS is not asked."""
    allowed_private_hosts: tuple[str, ...]
    alert_urls: tuple[str, ...]
    sentry_dsn: str
    sentry_traces_sample_rate: float
    public_url: str
    db_pool_size: int
    db_pooler: bool
    """Whether something between us and Postgres gives each transaction another connection (pgbouncer's mode
    `transaction`)."""
    preset_keys: Mapping[str, str]
    dev: bool | None
    """Whether clients on this machine need no event key; None: as the services are embedded."""
    step_events: bool
    flower_url: str

    @property
    def embedded(self) -> bool:
        """True where the private Postgres and Valkey are in use."""
        return os.environ.get("HEADRACE_EMBEDDED") == "1"

    @property
    def any_event_key_on_loopback(self) -> bool:
        """In development clients need no event key on this machine."""
        return self.embedded if self.dev is None else self.dev

    @property
    def web_threads(self) -> int:
        """As many requests at once as there are connections."""
        return self.db_pool_size or 8


class _Known:
    """What was read last, and of which setting."""

    def __init__(self) -> None:
        self.given: object = self
        self.read: Configuration | None = None


def configuration() -> Configuration:
    """What this process was told. Raises ImproperlyConfigured or EnvironmentValueError for what can't be used."""
    known = this_process.own(_Known)
    given = getattr(settings, "HEADRACE", None)
    if known.read is None or known.given is not given:
        known.read, known.given = read({**os.environ, **as_variables(given or {}, HERE)}), given
    return known.read


def celery_settings() -> dict[str, Any]:
    """What the project tells Headrace's Celery app besides."""
    return dict((getattr(settings, "HEADRACE", None) or {}).get(CELERY, {}))


def export() -> None:
    """Set the variables of what modules read when they are imported, from the project's settings.

    Raises ImproperlyConfigured for a key that there is not.
    """
    given: Mapping[str, Any] = getattr(settings, "HEADRACE", None) or {}
    unknown = sorted(str(name) for name in given.keys() - HERE - ELSEWHERE - {CELERY})
    if unknown:
        known = ", ".join(sorted([*HERE, *ELSEWHERE, CELERY]))
        raise ImproperlyConfigured(f"The setting HEADRACE knows no {', '.join(unknown)}; it knows {known}.")
    os.environ.update(as_variables(given, ELSEWHERE))


def as_variables(given: Mapping[str, Any], names: frozenset[str]) -> dict[str, str]:
    """Those keys of HEADRACE by the names of their variables, as a variable would spell the values."""
    return {
        name if name in OF_OTHERS else f"HEADRACE_{name}": _text(value)
        for name, value in given.items()
        if name in names and value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(sorted(map(str, value)) if isinstance(value, set | frozenset) else map(str, value))
    return str(value)


def read(env: Mapping[str, str]) -> Configuration:
    """The variables as typed values. Raises EnvironmentValueError naming the variable and what it may be."""
    redis_url = env.get("REDIS_URL", "")
    urls = env.get("HEADRACE_ALERT_URLS", "").strip()
    low, high = clocks.MIN_RESERVATION_S, clocks.MAX_RESERVATION_S
    return Configuration(
        redis_url=redis_url,
        redis_prefix=_prefix(env),
        broker_url=env.get("BROKER_URL", "") or redis_url,
        gate_lease_s=_gate_lease_s(env),
        gate_reservation_s=seconds(env, "HEADRACE_GATE_RESERVATION_S", clocks.RESERVATION_S, low=low, high=high),
        encryption_key=_encryption_key(env),
        encryption_keys_old=names(env, "HEADRACE_ENCRYPTION_KEYS_OLD"),
        encrypt_payloads=flag(env, "HEADRACE_ENCRYPT_PAYLOADS", False),
        aws_secrets_prefix=_aws_prefix(env),
        allowed_private_hosts=names(env, "HEADRACE_ALLOWED_PRIVATE_HOSTS"),
        alert_urls=tuple(re.split(r"[\s,]+(?=[a-zA-Z][\w+.-]*://)", urls)) if urls else (),
        sentry_dsn=env.get("SENTRY_DSN", "").strip(),
        sentry_traces_sample_rate=_share(env, "SENTRY_TRACES_SAMPLE_RATE", 1.0),
        public_url=_public_url(env),
        db_pool_size=whole_number(env, "HEADRACE_DB_POOL_SIZE", 8, low=0, high=100),
        db_pooler=_pooler(env),
        preset_keys=_preset_keys(env),
        dev=_dev(env),
        step_events=flag(env, "HEADRACE_STEP_EVENTS", True),
        flower_url=_web_address(env, "HEADRACE_FLOWER_URL", "https://flower.example.com"),
    )


def values(found: Configuration) -> dict[str, Any]:
    """The fields by their names."""
    return {field.name: getattr(found, field.name) for field in fields(Configuration)}


def encryption_keys() -> tuple[str, ...]:
    """What secrets are encrypted with, the newest first: keys of their own, or Django's; then those of before."""
    told = configuration()
    of_django = (str(settings.SECRET_KEY), *getattr(settings, "SECRET_KEY_FALLBACKS", ()))
    newest = (told.encryption_key,) if told.encryption_key else of_django
    return tuple(dict.fromkeys([*newest, *told.encryption_keys_old]))


def secret_variables() -> dict[str, str]:
    """The secrets that the environment has, by what comes after `HEADRACE_SECRET_`: `<ORG>__<NAME>`."""
    start = "HEADRACE_SECRET_"
    return {key.removeprefix(start): text for key, text in os.environ.items() if key.startswith(start) and "__" in key}


def variable_part(slug: str) -> str:
    """The slug of an organization as variables have it: `acme-eu` is `ACME_EU`."""
    return slug.upper().replace("-", "_")


def flag(source: Mapping[str, str], name: str, default: bool) -> bool:
    """The switch that a variable is, or the default where it is not set. Raises EnvironmentValueError."""
    raw = source.get(name, "").strip().lower()
    if raw in {"", "1", "true", "yes", "on"}:
        return default if raw == "" else True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise EnvironmentValueError(f"{name}={raw!r} is not a switch; set it to 1 or 0")


def names(source: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in source.get(name, "").split(",") if part.strip())


def _share(source: Mapping[str, str], name: str, default: float) -> float:
    raw = source.get(name, "").strip()
    try:
        value = float(raw) if raw else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise EnvironmentValueError(f"{name}={raw!r} is no share; set it to 0…1, like 0.1")
    return value


def _gate_lease_s(source: Mapping[str, str]) -> float:
    """A permit's lease. One that is set must be as long as a step's lease: else a permit is given to another step while
    its holder still counts as alive."""
    name, low, high = "HEADRACE_GATE_LEASE_S", clocks.MIN_LEASE_S, clocks.MAX_LEASE_S
    value = seconds(source, name, clocks.LEASE_S, low=low, high=high)
    if source.get(name, "").strip():
        step_s = step_lease_s(source)
        if value < step_s:
            raise EnvironmentValueError(
                f"{name}={value:g} is shorter than a step's lease (HEADRACE_LEASE_S={step_s:g}); set it to {step_s:g} "
                "or more"
            )
    return value


def _prefix(source: Mapping[str, str]) -> str:
    prefix = source.get("HEADRACE_REDIS_PREFIX", "").strip() or "headrace"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", prefix):
        raise EnvironmentValueError(f"HEADRACE_REDIS_PREFIX={prefix!r} may have letters, digits, '_', '.' and '-' only")
    return prefix


def _pooler(env: Mapping[str, str]) -> bool:
    given = env.get("HEADRACE_DB_POOLER", "").strip().lower()
    if given not in {"", "none", "session", "transaction"}:
        raise EnvironmentValueError(
            f"HEADRACE_DB_POOLER={given!r}: say `transaction` behind pgbouncer in that mode, else nothing."
        )
    return given == "transaction"


def _encryption_key(env: Mapping[str, str]) -> str:
    key = env.get("HEADRACE_ENCRYPTION_KEY", "")
    if "," in key:
        raise EnvironmentValueError(
            "HEADRACE_ENCRYPTION_KEY holds a comma, which stands between keys in HEADRACE_ENCRYPTION_KEYS_OLD: it "
            "could never be replaced. Choose a key without one"
        )
    return key


def _aws_prefix(env: Mapping[str, str]) -> str:
    prefix = env.get("HEADRACE_AWS_SECRETS_PREFIX", "").strip()
    if prefix and not re.fullmatch(r"[\w/+=.@-]{1,300}", prefix, re.ASCII):
        raise EnvironmentValueError(
            f"HEADRACE_AWS_SECRETS_PREFIX={prefix!r} begins no name of a secret; write headrace/"
        )
    return prefix


def _preset_keys(env: Mapping[str, str]) -> dict[str, str]:
    """The keys that are preset by Inngest's names: two that stand in addresses and headers, and two that sign."""
    found: dict[str, str] = {}
    for name in PRESET_KEYS:
        value = env.get(name, "").strip()
        in_addresses = name in {"INNGEST_EVENT_KEY", "INNGEST_API_KEY"}
        if value and (
            len(value) < 8 or len(value) > 500 or (in_addresses and not re.fullmatch(r"[\w.~-]+", value, re.ASCII))
        ):
            raise EnvironmentValueError(
                f"{name} can't be used: give 8 to 500 characters"
                + (", of letters, digits, '_', '.', '~' and '-' only" if in_addresses else "")
            )
        found[name] = value
    return found


def _dev(env: Mapping[str, str]) -> bool | None:
    """INNGEST_DEV: a switch, or the address of a development server (which means on)."""
    raw = env.get("INNGEST_DEV", "").strip()
    if not raw:
        return None
    return True if re.match(r"https?://", raw) else flag(env, "INNGEST_DEV", False)


def _web_address(env: Mapping[str, str], name: str, example: str) -> str:
    raw = env.get(name, "").strip().rstrip("/")
    if raw and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", raw):
        raise EnvironmentValueError(f"{name}={raw!r} is no address; write {example}")
    return raw


def _public_url(env: Mapping[str, str]) -> str:
    raw = _web_address(env, "HEADRACE_PUBLIC_URL", "https://headrace.example.com")
    return raw or f"http://localhost:{whole_number(env, 'PORT', DEFAULT_PORT, low=1, high=65535)}"
