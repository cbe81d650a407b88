"""What is done to many runs: to those that are chosen at once, to all that match a filter at a pace, with progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

from workflows import presenters, services
from workflows.dashboard.access import page
from workflows.dashboard.run.actions import has_changed
from workflows.dashboard.runs import query
from workflows.edge.access import CHANGE_RUNS
from workflows.edge.values import MAX_PAGE
from workflows.errors import InvalidInput, OperationNotFound, WorkflowsError
from workflows.models import BulkOperation, Organization, Run
from workflows.services import bulk, repair

SHOWN_PROBLEMS = 10


@dataclass(frozen=True, kw_only=True)
class Button:
    """What a button does: `name` of the bulk action with its options; `done` in the message afterwards."""

    name: str
    label: str
    done: str
    mode: str = ""
    effect: str

    @property
    def options(self) -> dict[str, Any]:
        return repair.options(self.mode, None, force=False) if self.mode else {}


BUTTONS = {
    "cancel": Button(
        name="cancel_runs",
        label="Cancel",
        done="cancelled",
        effect="Those of them that are live are cancelled: their open steps stop.",
    ),
    "replay": Button(
        name="replay_runs",
        label="Replay",
        done="replayed",
        mode="start",
        effect="Of each that has ended a new run is made, with the same input, in the current version.",
    ),
    "resume": Button(
        name="replay_runs",
        label="Resume",
        done="resumed",
        mode="resume",
        effect="Of each that has ended without success a new run takes over what was done, and runs the rest.",
    ),
}


@page(CHANGE_RUNS)
@require_POST
def chosen(request: HttpRequest, organization: Organization, action: str) -> HttpResponse:
    """Do it to the chosen runs, one by one, and say what became of each that was left.

    `run`: an id with the status that was seen (`id:status`); a run that is another one by now is left.
    """
    if action not in BUTTONS:
        raise Http404
    done, left = 0, []
    act = _cancel if action == "cancel" else _repeat(BUTTONS[action].mode)
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
    _say(request, BUTTONS[action], done, left)
    return HttpResponseRedirect(_back(request))


def _cancel(organization: Organization, run: Run, by: str) -> None:
    if not services.cancel_runs(organization, [run.id], reason=f"by {by}"):
        raise InvalidInput(f"It is {run.status}, or being cancelled: nothing was left to cancel.")


def _repeat(mode: str) -> Callable[[Organization, Run, str], None]:
    def act(organization: Organization, run: Run, by: str) -> None:
        repair.replay(organization, run.id, by=by, mode=mode)

    return act


def _say(request: HttpRequest, action: Button, done: int, left: list[str]) -> None:
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
    if action not in BUTTONS:
        raise Http404
    wanted = BUTTONS[action]
    filters = {name: value for name, value in query.chosen(request.GET).items() if name in query.BULK}
    for name in ("since", "until"):  # "24h" is so long ago now, and not when the operation looks
        if at := query.moment_of(filters.get(name, ""), name, timezone.now()):
            filters[name] = at.isoformat()
    context: dict[str, Any] = {
        "action": action, "wanted": wanted, "filters": query.chips(filters, {}), "query": urlencode(filters),
        "pace": request.POST.get("pace", ""),
    }  # fmt: skip
    try:
        pace = float(context["pace"]) if context["pace"] else None
        if request.method == "POST":
            by = request.user.get_username()
            begun = bulk.start(organization, wanted.name, filters, by=by, options=wanted.options, per_second=pace)
            messages.success(request, f"{begun.matched:,} runs will be {wanted.done}, {begun.per_second:g} a second.")
            return redirect("headrace:operation", operation_id=begun.id)
        draft = bulk.draft(organization, wanted.name, filters, options=wanted.options, per_second=pace)
        context |= {"draft": draft, "seconds": draft.matched / draft.per_second}
    except ValueError:
        context["error"] = f"pace: {context['pace'][:40]!r} is no number; write how many a second, as 20."
    except WorkflowsError as error:
        context["error"] = str(error)
    return render(request, "headrace/runs/matching.html", context, status=422 if context.get("error") else 200)


@page()
@require_GET
def operations(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The bulk operations on runs, the latest first."""
    rows = _rows(bulk.recent(organization, actions=repair.BULK_ACTIONS))
    return render(request, "headrace/runs/operations.html", {"operations": rows})


@page()
@require_GET
def operation(request: HttpRequest, organization: Organization, operation_id: UUID) -> HttpResponse:
    """One operation: how far it is, who asked for it, and what was left; the part alone for htmx."""
    (shown,) = _rows([_on_runs(organization, operation_id)])
    template = "headrace/runs/_operation.html" if request.headers.get("HX-Request") else "headrace/runs/operation.html"
    return render(request, template, {"operation": shown})


def _on_runs(organization: Organization, operation_id: UUID) -> BulkOperation:
    """Raises Http404 for what is no operation on runs: those on dead letters have pages of their own."""
    try:
        found = bulk.get(organization, operation_id)
    except OperationNotFound as error:
        raise Http404(str(error)) from None
    if found.action not in repair.BULK_ACTIONS:
        raise Http404(str(OperationNotFound()))
    return found


@page(CHANGE_RUNS)
@require_POST
def turn(request: HttpRequest, organization: Organization, operation_id: UUID, what: str) -> HttpResponse:
    """Stop an operation, or go on with it."""
    if what not in {"stop", "resume"}:
        raise Http404
    found = _on_runs(organization, operation_id)
    act, wanted = (bulk.stop, "stopped") if what == "stop" else (bulk.resume, "running")
    now = act(organization, operation_id, by=request.user.get_username()).status
    if now == wanted != found.status:
        text = "It stops after the runs under way." if what == "stop" else "It goes on after the last run it looked at."
        messages.success(request, text)
    else:
        messages.warning(request, f"It is {now}: there is nothing to {what}.")
    return redirect("headrace:operation", operation_id=operation_id)


def _rows(found: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for each in found:
        row = presenters.operation_out(each)
        seen = row["done"] + row["passedOver"] + row["repairedBefore"]
        words = ", ".join(f"{name} {value}" for name, value in row["filter"].items()) or "all runs"
        row |= {"seen": seen, "percent": 100 * seen / row["matched"] if row["matched"] else 100, "words": words}
        rows.append(row)
    return rows
