"""Publishing the flows that the project's code has: a changed one is a new version."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.utils.module_loading import autodiscover_modules

from workflows import services
from workflows.definitions.validate import DefinitionProblems
from workflows.functions import flows
from workflows.functions.flows import FunctionFlow
from workflows.models import FlowVersion, Organization

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A flow, and the number of the version that has its code. `changed`: it is new."""

    flow: FunctionFlow
    number: int
    changed: bool


def discover() -> None:
    """Import the module `flows` of every installed app, and those that HEADRACE_FLOW_MODULES names. Raises what one of
    them raises; ImproperlyConfigured for a named one that is not there."""
    autodiscover_modules("flows")
    for name in os.environ.get("HEADRACE_FLOW_MODULES", "").split(","):
        if name.strip():
            try:
                importlib.import_module(name.strip())
            except ModuleNotFoundError as error:
                raise ImproperlyConfigured(
                    f"HEADRACE_FLOW_MODULES: {name.strip()} can't be imported: {error}"
                ) from error


def organization() -> str:
    """The organization that the code's flows belong to: HEADRACE_CODE_ORGANIZATION, or `default`."""
    return os.environ.get("HEADRACE_CODE_ORGANIZATION", "default")


def publish(owner: Organization, *, only_new: bool = False) -> list[Published]:
    """Publish all flows of the code; `only_new`: those whose code no version has. Raises DefinitionProblems with
    everything that is wrong, and publishes none then."""
    found = [flow for flow in flows.known() if not only_new or not _is_published(owner, flow)]
    problems = []
    specs = []
    for flow in found:
        try:
            specs.append((flow, flow.spec()))
        except DefinitionProblems as error:
            problems += error.problems
    if problems:
        raise DefinitionProblems(problems)
    published = []
    for flow, spec in specs:
        applied = services.apply_definition(owner, spec)
        published.append(Published(flow=flow, number=applied.version.number, changed=applied.changed))
    return published


def _is_published(owner: Organization, flow: FunctionFlow) -> bool:
    versions = FlowVersion.objects.filter(flow__organization=owner, flow__slug=flow.slug)
    return versions.filter(definition__steps__0__config__digest=flow.digest).exists()


def publish_at_start() -> None:
    """As a worker starts: publish those flows of its code that were never published. What keeps it from that is in the
    log; the worker goes on.

    Code that was published before is left alone: an old worker that starts late must not take a new version back.
    `manage.py flows publish` does.
    """
    if not flows.known():
        return
    try:
        owner = Organization.objects.get(slug=organization())
        for each in publish(owner, only_new=True):
            if each.changed:
                log.info("flow published from code", flow=each.flow.slug, version=each.number)
    except Organization.DoesNotExist:
        log.error("flows in Python are not published: there is no such organization", organization=organization())
    except (DefinitionProblems, DatabaseError) as error:
        log.error("flows in Python are not published", reason=str(error))
