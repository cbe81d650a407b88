"""The flow of a task: published when the task is enqueued for the first time, and found from then on.

A version is known by its content. Processes that are updated one after the other, and a release that is taken back,
each use the version of their own options; nobody publishes in turns with another.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError, connection, connections, transaction

from workflows import this_process
from workflows.definitions import document
from workflows.definitions.schema import FlowSpec
from workflows.engine.sql import services as sql
from workflows.errors import FlowArchived, FlowNotPublished, FlowPaused
from workflows.models import Flow, FlowVersion, Organization
from workflows.services import runs
from workflows.services.django_tasks.options import TaskSource, flow_of
from workflows.steps.django_tasks.api import InvalidTaskBackendError

log = structlog.get_logger(__name__)
LOCK_TIMEOUT_MS = 2_000
"""How long publishing beside the caller's transaction waits for a lock: it may be the caller's own."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The version of a task's flow, by these OPTIONS of its backend and of the task's own code."""

    version_id: UUID
    org_id: UUID
    slug: str
    options: Any
    own: Any


class _Known(dict[TaskSource, Published]):
    """The flows that this process has published or found."""


class _Publishing:
    """One thread of a process publishes beside a transaction at a time: a connection more is enough for all.

    Nothing that may wait for another's commit is done under the lock: that other may wait for the lock.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()


def published(source: TaskSource, options: Any, organization: str) -> Published:
    """The version that runs of the task are made of; published now, where there is none.

    Raises FlowArchived or FlowPaused where an operator has switched the task off, InvalidTaskError for options that
    can't be used, InvalidTaskBackendError where there is no such organization.
    """
    known = this_process.own(_Known)
    found = known.get(source)
    if found is not None and (found.options, found.own) == (options, source.own) and _is_there(found):
        return found
    made, is_lasting = _publish(source, options, organization)
    if is_lasting:
        known[source] = made
    else:
        known.pop(source, None)
    _is_there(made)
    return made


class _Organizations(dict[str, UUID]):
    """The organizations of backends, by slug, as this process has found them."""


def organization_id(slug: str) -> UUID:
    """The id of a backend's organization, from memory after the first time. Raises InvalidTaskBackendError."""
    known = this_process.own(_Organizations)
    if slug not in known:
        known[slug] = organization_of(slug).id
    return known[slug]


def organization_of(slug: str) -> Organization:
    """The organization of a backend. Raises InvalidTaskBackendError."""
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        raise InvalidTaskBackendError(
            f"OPTIONS of the task backend names the organization {slug!r}, which there is not; create it with "
            f"manage.py organization create {slug}, or name another."
        )
    this_process.own(_Organizations)[slug] = found.id
    return found


def _is_there(found: Published) -> bool:
    """Whether the flow and this version of it are there; False where one was deleted meanwhile (a version that is not
    the current one, by retention). Raises FlowArchived or FlowPaused."""
    rows = sql.current_version(org=found.org_id, slug=found.slug, version=found.version_id)
    if rows and rows[0].is_archived:
        raise FlowArchived(f"The flow {found.slug!r} of this task is archived: unarchive it to enqueue the task again.")
    if rows and rows[0].skips_arrivals:
        raise FlowPaused(f"The flow {found.slug!r} of this task is paused and skips what arrives; resume it first.")
    return bool(rows) and rows[0].has_version


def _publish(source: TaskSource, options: Any, slug: str) -> tuple[Published, bool]:
    """The version of this content, and whether it stays whatever becomes of the caller's transaction."""
    spec = flow_of(source, options)
    organization = organization_of(slug)
    version, is_lasting = _stored(organization, spec), True
    if version is None and connection.in_atomic_block:
        with this_process.own(_Publishing).lock:
            version = _publish_beside(organization, spec)
        if version is not None and not FlowVersion.objects.filter(id=version.id).exists():
            raise FlowNotPublished(
                "The flow of this task has been published just now, and this transaction can't see it (REPEATABLE READ "
                "or SERIALIZABLE): enqueue the task again in a new transaction."
            )
    if version is None:
        _refuse_archived(organization, spec)
        version, is_lasting = runs.apply_definition(organization, spec).version, not connection.in_atomic_block
    made = Published(version_id=version.id, org_id=organization.id, slug=spec.flow, options=options, own=source.own)
    return made, is_lasting


def _stored(organization: Organization, spec: FlowSpec) -> FlowVersion | None:
    checksum = document.checksum_of(document.to_document(spec))
    found = FlowVersion.objects.filter(flow__organization=organization, flow__slug=spec.flow, checksum=checksum)
    return found.exclude(published_at=None).order_by("-number").first()


def _refuse_archived(organization: Organization, spec: FlowSpec) -> None:
    """Publishing would bring an archived flow back, which is an operator's to do."""
    if Flow.objects.filter(organization=organization, slug=spec.flow).exclude(archived_at=None).exists():
        raise FlowArchived(f"The flow {spec.flow!r} of this task is archived: unarchive it to enqueue the task again.")


def _publish_beside(organization: Organization, spec: FlowSpec) -> FlowVersion | None:
    """Publish on a connection of its own: the caller's transaction may be long, and may be rolled back. None where that
    can't be done (the caller's transaction holds a lock, or has made the organization): the flow is the caller's then.
    """
    made: list[FlowVersion] = []
    refused: list[BaseException] = []

    def work() -> None:
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
                _refuse_archived(organization, spec)
                version = runs.apply_definition(organization, spec).version
            made.append(version)
        except DatabaseError as error:
            log.info("the flow of a task is published in the caller's transaction", flow=spec.flow, reason=str(error))
        except BaseException as error:
            refused.append(error)
        finally:
            with contextlib.suppress(DatabaseError):
                connections.close_all()

    thread = threading.Thread(target=work, name="publish the flow of a task")
    thread.start()
    thread.join()
    if refused:
        raise refused[0]
    return made[0] if made else None
