"""What is done to many runs: to those that are chosen at once, to all that match a filter at a pace, with progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from workflows import services
from workflows.dashboard import bulk as pages
from workflows.dashboard.access import page
from workflows.dashboard.bulk import Kind, Subject, Words
from workflows.dashboard.run.actions import has_changed
from workflows.dashboard.runs import query
from workflows.edge.access import CHANGE_RUNS
from workflows.edge.values import MAX_PAGE
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization, Run
from workflows.services import bulk, repair

SHOWN_PROBLEMS = 10


KINDS = {
    "cancel": Kind(
        action="cancel_runs",
        word="Cancel",
        done="cancelled",
        effect="Their open steps stop; one that has ended by then stays as it is.",
    ),
    "replay": Kind(
        action="replay_runs",
        word="Replay",
        done="replayed",
        mode="start",
        effect="Of each that has ended a new run is made, with the same input, in the current version.",
    ),
    "resume": Kind(
        action="replay_runs",
        word="Resume",
        done="resumed",
        mode="resume",
        effect="Of each that has ended without success a new run takes over what was done, and runs the rest.",
    ),
}


def _words(_: Organization, filters: Sequence[Mapping[str, Any]]) -> list[Words]:
    return [{query.LABELS.get(name, name): str(value) for name, value in each.items() if value} for each in filters]


RUNS = Subject(
    one="run",
    many="runs",
    kinds=KINDS,
    actions=repair.BULK_ACTIONS,
    home="headrace:runs",
    home_label="Runs",
    listing="headrace:operations",
    page="headrace:operation",
    turn="headrace:turn_operation",
    item="headrace:run",
    every="No filter: all runs of the organization.",
    later="What is made after this moment does not belong to it.",
    hint="Filter the runs, then choose “All that match”.",
    right=CHANGE_RUNS,
    words=_words,
)


@page(CHANGE_RUNS)
@require_POST
def chosen(request: HttpRequest, organization: Organization, action: str) -> HttpResponse:
    """Do it to the chosen runs, one by one, and say what became of each that was left.

    `run`: an id with the status that was seen (`id:status`); a run that is another one by now is left.
    """
    if action not in KINDS:
        raise Http404
    done, left = 0, []
    act = _cancel if action == "cancel" else _repeat(KINDS[action].mode)
    for text in request.POST.getlist("run")[:MAX_PAGE]:
        id_, _, seen = text.partition(":")
        try:
            run = services.get_run(organization, UUID(id_))
            if changed := has_changed(run, seen):
                raise InvalidInput(changed)
            act(organization, run, request.user.get_username())
            done += 1
        except ValueError:
            left.append(f"{id_[:40]}: this is no id.")
        except WorkflowsError as error:
            left.append(f"{id_}: {error}")
    _say(request, KINDS[action], done, left)
    return HttpResponseRedirect(_back(request))


def _cancel(organization: Organization, run: Run, by: str) -> None:
    if not services.cancel_runs(organization, [run.id], reason=f"by {by}"):
        raise InvalidInput(f"It is {run.status}, or being cancelled: nothing was left to cancel.")


def _repeat(mode: str) -> Callable[[Organization, Run, str], None]:
    def act(organization: Organization, run: Run, by: str) -> None:
        repair.replay(organization, run.id, by=by, mode=mode)

    return act


def _say(request: HttpRequest, action: Kind, done: int, left: list[str]) -> None:
    if done:
        messages.success(request, f"{done} run{'s are' if done != 1 else ' is'} {action.done}.")
    for text in left[:SHOWN_PROBLEMS]:
        messages.warning(request, f"Left as it is: {text}")
    if len(left) > SHOWN_PROBLEMS:
        messages.warning(request, f"{len(left) - SHOWN_PROBLEMS} more were left as they are.")
    if not done and not left:
        messages.warning(request, "Nothing was done: no run was chosen.")


def _back(request: HttpRequest) -> str:
    """To the list as it was; never to another site."""
    wanted = request.POST.get("next", "")
    top = reverse("headrace:runs")
    return wanted if url_has_allowed_host_and_scheme(wanted, None) and wanted.startswith(top) else top


@page(CHANGE_RUNS)
@require_http_methods(["GET", "POST"])
def matching(request: HttpRequest, organization: Organization, action: str) -> HttpResponse:
    """Ask once, with how many runs match and at which pace; then start the operation and show how it goes."""
    if action not in KINDS:
        raise Http404
    kind = KINDS[action]
    filters = {name: value for name, value in query.chosen(request.GET).items() if name in query.BULK}
    filters.setdefault("until", timezone.now().isoformat())  # what is made after the look does not belong to it
    for name in ("since", "until"):  # "24h" is so long ago now, and not when the operation looks
        if at := query.moment_of(filters.get(name, ""), name, timezone.now()):
            filters[name] = at.isoformat()
    draft, error = None, ""
    try:
        version = pages.version_of(kind, request.POST.get("version", ""))
        options = repair.options(kind.mode, version, force=False) if kind.mode else {}
        pace = pages.pace_of(request.POST.get("pace", ""))
        if request.method == "POST":
            by = request.user.get_username()
            begun = bulk.start(organization, kind.action, filters, by=by, options=options, per_second=pace)
            said = f"{RUNS.counted(begun)} will be {kind.done}, {begun.per_second:g} a second."
            messages.success(request, said)
            return redirect("headrace:operation", operation_id=begun.id)
        draft = bulk.draft(organization, kind.action, filters, options=options, per_second=pace)
    except WorkflowsError as refused:
        error = str(refused)
    context = pages.before(organization, RUNS, kind, draft, filters)
    context |= {
        "error": error,
        "start_url": f"?{urlencode(filters)}",
        "back": f"{reverse('headrace:runs')}?{urlencode(filters)}",
    }
    return render(request, "headrace/bulk/before.html", context, status=422 if error else 200)


@page()
@require_GET
def operations(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The bulk operations on runs, the latest first."""
    return pages.listing(request, organization, RUNS)


@page()
@require_GET
def operation(request: HttpRequest, organization: Organization, operation_id: UUID) -> HttpResponse:
    """One operation; the part that changes alone for htmx."""
    return pages.one(request, organization, RUNS, operation_id)


@page(CHANGE_RUNS)
@require_POST
def turn(request: HttpRequest, organization: Organization, operation_id: UUID, what: str) -> HttpResponse:
    """Stop an operation, or go on with it."""
    return pages.turn(request, organization, RUNS, operation_id, what)
