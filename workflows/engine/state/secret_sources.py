"""Where the secrets of an organization come from: the database, else the environment, else AWS Secrets Manager.

A secret that can't be had fails the step that asks for it, with the source that is in the way; steps that ask for
others go on. What was read is kept for some seconds, so that a changed value comes soon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import structlog
from cachetools import LRUCache, TTLCache

from workflows import this_process
from workflows.edge import aws
from workflows.engine.sql import perform as sql
from workflows.errors import ConfigurationFailure, InvalidInput, WorkflowsError
from workflows.models import Organization, Secret
from workflows.steps import secret_rules
from workflows.steps.masking import Secrets
from workflows.this_process.configuration import configuration, secret_variables, variable_part

log = structlog.get_logger(__name__)
KEPT_S = 10.0
KEPT_OF_AWS_S = 60.0
STALE_S = 900.0
"""For so long the last values do while AWS does not answer."""
MOST_ORGANIZATIONS = 1_000
Source = Literal["database", "environment", "aws"]
"""In the order in which they are asked: the first one that has a name counts."""


class Values(dict[str, str]):
    """Name → clear text, and why others can't be had.

    `sources`: by name, all that have it; the first one counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: dict[str, str] = {}
        self.failed_sources: list[str] = []
        self.sources: dict[str, list[Source]] = {}

    def __missing__(self, name: str) -> str:
        """Raises ConfigurationFailure where a source keeps it, and KeyError where there is none."""
        if name in self.unreadable:
            raise ConfigurationFailure(self.unreadable[name])
        if self.failed_sources:
            raise ConfigurationFailure(
                f"The secret {name} is neither in the database nor in the environment. {' '.join(self.failed_sources)}"
            )
        raise KeyError(name)

    def offer(self, name: str, value: str, source: Source, words: str) -> None:
        """Take a value, unless a source before has this name. One that no secret can be is unreadable."""
        self.sources.setdefault(name, []).append(source)
        if name in self or name in self.unreadable:
            return
        try:
            secret_rules.check_name(name)
            secret_rules.check_value(value)
        except InvalidInput as error:
            self.unreadable[name] = f"The secret {name[:100]} from {words} can't be used: {error}"
        else:
            self[name] = value


class SecretValues:
    """The clear secrets of organizations, kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[UUID, tuple[Values, Secrets]] = TTLCache(MOST_ORGANIZATIONS, KEPT_S, timer=time.monotonic)

    def of(self, org_id: UUID) -> tuple[Values, Secrets]:
        """Name → value, and what masks them, to be added to by one try of a step."""
        with self._lock:
            kept = self._kept.get(org_id)
        if kept is None:
            values = _read(org_id)
            kept = values, Secrets(values.values())
            with self._lock:
                self._kept[org_id] = kept
        return kept[0], kept[1].copy()

    def forget(self, org_id: UUID) -> None:
        """Read them anew at the next use."""
        with self._lock:
            self._kept.pop(org_id, None)


def forget(org_id: UUID) -> None:
    """Have this process read the secrets of an organization anew: one was changed. Others do within seconds."""
    this_process.own(SecretValues).forget(org_id)


def secrets_of(org_id: UUID) -> tuple[Values, Secrets]:
    """The clear secrets of an organization, by name, and what masks them."""
    return this_process.own(SecretValues).of(org_id)


def value_of(org_id: UUID, name: str) -> str | None:
    """One secret, as it is now in the database; else as the other sources had it some seconds ago. None: there is none.

    Raises ConfigurationFailure where it can't be had.
    """
    row = Secret.objects.filter(organization_id=org_id, name=name).first()
    if row is not None:
        return row.value
    try:
        return secrets_of(org_id)[0][name]
    except KeyError:
        return None


def _read(org_id: UUID) -> Values:
    values = Values()
    for row in sql.load_secrets(org=org_id):
        values.sources[row.name] = ["database"]
        try:
            values[row.name] = Secret(name=row.name, ciphertext=row.ciphertext).value
        except ConfigurationFailure as error:
            values.unreadable[row.name] = str(error)
    prefix = configuration().aws_secrets_prefix
    if not prefix and not secret_variables():
        return values
    slug = Organization.objects.filter(id=org_id).values_list("slug", flat=True).first() or ""
    _add_environment(values, slug)
    if prefix:
        _add_aws(values, f"{prefix}{slug}")
    return values


def _add_environment(values: Values, slug: str) -> None:
    start = f"{variable_part(slug)}__"
    given = {key.removeprefix(start): text for key, text in secret_variables().items() if key.startswith(start)}
    if given and _is_ambiguous(slug):
        values.failed_sources.append(
            f"The variables HEADRACE_SECRET_{start}… belong to several organizations, so they are none's: store the "
            "secrets in the database."
        )
        return
    for name, text in given.items():
        values.offer(name, text, "environment", "the environment")


def _is_ambiguous(slug: str) -> bool:
    """Whether a variable of it may be read as one of another organization: both have the same name in variables (`a-b`
    and `a_b`), or the name of one, with the two lines that end it, begins the other's (`a` and `a--b`)."""
    start = f"{variable_part(slug)}__"
    others = Organization.objects.exclude(slug=slug).values_list("slug", flat=True)
    starts = [f"{variable_part(each)}__" for each in others]
    return any(each.startswith(start) or start.startswith(each) for each in starts)


class _Kept:
    """What AWS has said last of one secret, and from when on it is asked once more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: Mapping[str, str] | None = None
        self.at = 0.0
        self.retry_at = 0.0
        self.error: WorkflowsError | None = None

    def is_fresh(self, now: float) -> bool:
        return self.values is not None and now - self.at < KEPT_OF_AWS_S

    def serve(self, now: float) -> Mapping[str, str] | None:
        """The last values, as long as they do. Raises the failure of the last try, until the next one is due."""
        if self.is_fresh(now):
            return self.values
        if now >= self.retry_at:
            return None
        return self.last(now)

    def last(self, now: float) -> Mapping[str, str] | None:
        """The last values where they are not too old, else the failure; None before the first try has ended."""
        if self.values is not None and now - self.at <= STALE_S:
            return self.values
        if self.error is not None:
            raise self.error
        return None


class AwsSecrets:
    """What AWS has for organizations, by the name of the secret there, and the client that reads it.

    While AWS is away, an organization waits for its own secret alone, once in KEPT_S; the others have their own.
    """

    def __init__(self) -> None:
        self._kept: LRUCache[str, _Kept] = LRUCache(MOST_ORGANIZATIONS)
        self._lock = threading.Lock()  # of the dict: nothing is asked under it
        self._client: Any = None

    def read(self, name: str) -> Mapping[str, str]:
        """The names and texts. Raises AwsUnavailable, MissingExtra where it can't be read and was not lately."""
        with self._lock:
            kept = self._kept.setdefault(name, _Kept())
        served = kept.serve(time.monotonic())
        if served is not None:
            return served
        if not kept.lock.acquire(blocking=False):  # another thread asks: its answer does, or the last one
            served = kept.values if kept.values is not None and time.monotonic() - kept.at <= STALE_S else None
            if served is not None:
                return served
            kept.lock.acquire()
        try:
            served = kept.serve(time.monotonic())
            return served if served is not None else self._ask(name, kept)
        finally:
            kept.lock.release()

    def _ask(self, name: str, kept: _Kept) -> Mapping[str, str]:
        try:
            self._client = self._client or aws.client()
            found = aws.read_secret(name, self._client) or {}
        except WorkflowsError as error:
            now = time.monotonic()
            kept.error, kept.retry_at = error, now + KEPT_S
            served = kept.last(now)
            assert served is not None, "the failure was raised"
            log.warning("secrets of AWS are read later: the last ones do", secret=name, error=str(error))
            return served
        kept.values, kept.at, kept.error, kept.retry_at = found, time.monotonic(), None, 0.0
        return found


def _add_aws(values: Values, name: str) -> None:
    try:
        found = this_process.own(AwsSecrets).read(name)
    except WorkflowsError as error:
        values.failed_sources.append(str(error))
        return
    for each, text in found.items():
        values.offer(each, text, "aws", f"the AWS secret {name}")
