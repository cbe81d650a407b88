"""The typed environment: every setting that a deployment may change, read once, with a clear error for a bad value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from throttling import clocks
from throttling.environment import seconds, step_lease_s, whole_number
from throttling.errors import EnvironmentValueError

BASE_DIR = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 8288


class ServicesError(RuntimeError):
    """There is no database or no store to work with."""


def _flag(source: Mapping[str, str], name: str, default: bool) -> bool:
    raw = source.get(name, "").strip().lower()
    if raw in {"", "1", "true", "yes", "on"}:
        return default if raw == "" else True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise EnvironmentValueError(f"{name}={raw!r} is not a switch; set it to 1 or 0")


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


def _names(source: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in source.get(name, "").split(",") if part.strip())


def _prefix(source: Mapping[str, str]) -> str:
    prefix = source.get("HEADRACE_REDIS_PREFIX", "").strip() or "headrace"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", prefix):
        raise EnvironmentValueError(f"HEADRACE_REDIS_PREFIX={prefix!r} may have letters, digits, '_', '.' and '-' only")
    return prefix


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the process was told by its environment."""

    database_url: str
    redis_url: str
    redis_prefix: str
    gate_lease_s: float
    gate_reservation_s: float
    broker_url: str
    secret_key: str
    encryption_key: str
    debug: bool
    https: bool
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    allowed_private_hosts: tuple[str, ...]
    alert_urls: tuple[str, ...]
    sentry_dsn: str
    sentry_traces_sample_rate: float
    var_dir: Path
    port: int
    public_url: str
    log_format: str
    log_level: str
    db_pool_size: int
    preset_keys: Mapping[str, str]
    dev: bool | None
    """Whether clients on this machine need no event key; None: as the services are embedded."""
    step_events: bool
    flower_url: str

    @property
    def embedded(self) -> bool:
        """True where the private Postgres and Valkey are in use."""
        return os.environ.get("HEADRACE_EMBEDDED") == "1"


def read(source: Mapping[str, str] | None = None) -> Environment:
    """The environment as typed values. Raises EnvironmentValueError naming the variable and what it may be."""
    env = os.environ if source is None else source
    var_dir = Path(env.get("HEADRACE_VAR_DIR") or BASE_DIR / "var").resolve()
    redis_url = env.get("REDIS_URL", "")
    urls = env.get("HEADRACE_ALERT_URLS", "").strip()
    log_format = env.get("HEADRACE_LOG_FORMAT", "console")
    if log_format not in {"console", "json"}:
        raise EnvironmentValueError(f"HEADRACE_LOG_FORMAT={log_format!r} is unknown; set it to console or json")
    return Environment(
        database_url=env.get("DATABASE_URL", ""),
        redis_url=redis_url,
        redis_prefix=_prefix(env),
        gate_lease_s=_gate_lease_s(env),
        gate_reservation_s=seconds(
            env,
            "HEADRACE_GATE_RESERVATION_S",
            clocks.RESERVATION_S,
            low=clocks.MIN_RESERVATION_S,
            high=clocks.MAX_RESERVATION_S,
        ),
        broker_url=env.get("BROKER_URL", "") or redis_url,
        secret_key=env.get("HEADRACE_SECRET_KEY", ""),
        encryption_key=env.get("HEADRACE_ENCRYPTION_KEY", ""),
        debug=_flag(env, "HEADRACE_DEBUG", False),
        https=_flag(env, "HEADRACE_HTTPS", False),
        allowed_hosts=_names(env, "HEADRACE_ALLOWED_HOSTS"),
        csrf_trusted_origins=_names(env, "HEADRACE_CSRF_TRUSTED_ORIGINS"),
        allowed_private_hosts=_names(env, "HEADRACE_ALLOWED_PRIVATE_HOSTS"),
        alert_urls=tuple(re.split(r"[\s,]+(?=[a-zA-Z][\w+.-]*://)", urls)) if urls else (),
        sentry_dsn=env.get("SENTRY_DSN", "").strip(),
        sentry_traces_sample_rate=_share(env, "SENTRY_TRACES_SAMPLE_RATE", 1.0),
        var_dir=var_dir,
        port=whole_number(env, "PORT", DEFAULT_PORT, low=1, high=65535),
        public_url=_public_url(env),
        log_format=log_format,
        log_level=env.get("HEADRACE_LOG_LEVEL", "INFO").upper(),
        db_pool_size=whole_number(env, "HEADRACE_DB_POOL_SIZE", 8, low=0, high=100),
        preset_keys=_preset_keys(env),
        dev=_dev(env),
        step_events=_flag(env, "HEADRACE_STEP_EVENTS", True),
        flower_url=_web_address(env, "HEADRACE_FLOWER_URL", "https://flower.example.com"),
    )


def _preset_keys(env: Mapping[str, str]) -> dict[str, str]:
    """The keys that are preset by Inngest's names: two that stand in addresses and headers, and two that sign."""
    found: dict[str, str] = {}
    for name in ("INNGEST_EVENT_KEY", "INNGEST_API_KEY", "INNGEST_SIGNING_KEY", "INNGEST_WEBHOOK_KEY"):
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
    return True if re.match(r"https?://", raw) else _flag(env, "INNGEST_DEV", False)


def _web_address(env: Mapping[str, str], name: str, example: str) -> str:
    raw = env.get(name, "").strip().rstrip("/")
    if raw and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", raw):
        raise EnvironmentValueError(f"{name}={raw!r} is no address; write {example}")
    return raw


def _public_url(env: Mapping[str, str]) -> str:
    raw = _web_address(env, "HEADRACE_PUBLIC_URL", "https://headrace.example.com")
    return raw or f"http://localhost:{whole_number(env, 'PORT', DEFAULT_PORT, low=1, high=65535)}"
