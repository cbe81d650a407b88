"""What is done to one run: cancel, replay, resume. Each form posts the status that was seen: a changed run is left."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from workflows import services
from workflows.dashboard.access import page
from workflows.edge.access import CHANGE_RUNS
from workflows.errors import RunNotFound, WorkflowsError
from workflows.models import Organization, Run
from workflows.models.run import LIVE_RUN
from workflows.selectors.run_lists import WAITING
from workflows.services import repair
from workflows.services.repair import Repeat


def has_changed(run: Run, seen: str) -> str:
    """What to say where the run is no more what the page showed; empty where it is, or the form says nothing."""
    was_live = seen in {*LIVE_RUN, WAITING}
    if not seen or (run.is_live if was_live else run.status == seen):
        return ""
    return f"Nothing was done: the run was {seen} on your page, and is {run.status} now. Look at it again first."


def sentence_of(repeat: Repeat) -> str:
    """What a repeat has done."""
    kept = f", and takes over the outcomes of {len(repeat.kept)}" if repeat.kept else ""
    steps = "1 step" if len(repeat.runs) == 1 else f"{len(repeat.runs)} steps"
    return f"This is the new run, in version {repeat.version}: it runs {steps}{kept}."


@page(CHANGE_RUNS)
@require_POST
def replay(request: HttpRequest, organization: Organization, run_id: UUID, mode: str) -> HttpResponse:
    """Run an ended run again, and show the new one. A second repair is made where the form says so (`force`)."""
    by, force = request.user.get_username(), request.POST.get("force") == "yes"
    try:
        changed = has_changed(services.get_run(organization, run_id), request.POST.get("seen", ""))
        if changed:
            messages.warning(request, changed)
            return redirect("headrace:run", run_id=run_id)
        repeat = repair.replay(organization, run_id, by=by, mode=mode, force=force)
    except RunNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:  # not ended yet, or an input that the flow takes no more
        messages.error(request, str(error))
        return redirect("headrace:run", run_id=run_id)
    messages.success(request, sentence_of(repeat))
    return redirect("headrace:run", run_id=repeat.run_id)


@page(CHANGE_RUNS)
@require_POST
def cancel(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """Cancel the run and show it again."""
    try:
        run = services.get_run(organization, run_id)
        if services.cancel_runs(organization, [run_id], reason=f"by {request.user.get_username()}"):
            messages.success(request, "The run is cancelled. A step that runs sees it within a heartbeat.")
        elif run.is_live:
            messages.warning(request, "Nothing was done: somebody else is cancelling the run.")
        else:
            messages.warning(request, f"Nothing was done: the run has ended, and is {run.status}.")
    except RunNotFound as error:
        raise Http404(str(error)) from None
    return redirect("headrace:run", run_id=run_id)
