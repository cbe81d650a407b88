from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from workflows import services
from workflows.admin.actions.once_more import confirmation
from workflows.admin.bounded import MOST_LISTED, BoundedAdmin, EventNameFilter, QueueFilter, StartedByFilter, TypeFilter
from workflows.admin.readonly import ReadOnlyAdmin, ReadOnlyInline, json_block
from workflows.admin.scoped import Scope
from workflows.edge import access
from workflows.errors import InvalidInput, RunNotLive
from workflows.models import (
    Attempt,
    Event,
    FanOut,
    LeaderLease,
    Organization,
    PrunedRun,
    Run,
    StepRun,
    TriggerOutcome,
    Wait,
    Worker,
)
from workflows.selectors import run_lists
from workflows.services import repair

MOST_RUNS = 10_000
"""A member's list of rows of runs has those of so many runs, the newest."""
RUNS_READ_AT_ONCE = 1_000


class StepRunInline(ReadOnlyInline):
    model = StepRun
    fields = ("key", "type", "status", "attempt", "ready_at", "started_at", "ended_at")
    readonly_fields = fields


class ShownStatusFilter(admin.SimpleListFilter):
    """By the status that is shown, here as everywhere."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status, status) for status in (*Run.Status.values, run_lists.WAITING)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        try:
            return run_lists.with_status(queryset, str(self.value()))
        except InvalidInput:
            return queryset.none()


class RunChangeList(ChangeList):
    """The runs of a page, each with the status that is shown."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        page = list(self.result_list)
        statuses = run_lists.shown_statuses(page)
        for run in page:
            run.shown = statuses[run.id]
        self.result_list = page


@admin.register(Run)
class RunAdmin(BoundedAdmin):
    scope = Scope(path="org_id")
    action_rights: ClassVar = dict.fromkeys(
        ("cancel", "replay", "resume", "replay_once_more", "resume_once_more"), access.CHANGE_RUNS
    )
    list_display = ("id", "flow", "shown_status", "trigger", "priority", "created_at", "ended_at")
    list_filter = (ShownStatusFilter, StartedByFilter, "flow")
    list_select_related = ("flow",)
    inlines = (StepRunInline,)
    actions = ("cancel", "replay", "resume", "replay_once_more", "resume_once_more")
    fields = (
        "id",
        "flow",
        "version",
        "shown_status",
        "trigger",
        "event_name",
        "event_id",
        "user_id",
        "tags",
        "priority",
        "input_json",
        "output_json",
        "error_json",
        "created_at",
        "started_at",
        "ended_at",
        "cancel_reason",
        "origin_id",
        "origin_kind",
        "repair_root_id",
        "repair_number",
        "parent_id",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunChangeList

    @admin.display(description="status", ordering="status")
    def shown_status(self, run: Any) -> str:
        return str(getattr(run, "shown", "") or run_lists.shown_statuses([run])[run.id])

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self.may_act(request, "cancel")

    @admin.action(description="Cancel the selected runs", permissions=["cancel"])
    def cancel(self, request: HttpRequest, runs: Any) -> None:
        by = f"by {request.user.get_username()}"
        organizations = Organization.objects.in_bulk({run.org_id for run in runs})

        def cancel(run: Run) -> None:
            if not services.cancel_runs(organizations[run.org_id], [run.id], reason=by):
                raise RunNotLive

        self.apply(request, runs, "runs asked to stop", cancel)

    @admin.action(description="Replay the selected runs from the start", permissions=["cancel"])
    def replay(self, request: HttpRequest, runs: Any) -> None:
        self._repeat(request, runs, "start")

    @admin.action(description="Resume the selected runs from what failed", permissions=["cancel"])
    def resume(self, request: HttpRequest, runs: Any) -> None:
        self._repeat(request, runs, "resume")

    @admin.action(description="Replay once more what was repaired already", permissions=["cancel"])
    def replay_once_more(self, request: HttpRequest, runs: Any) -> TemplateResponse | None:
        return self._once_more(request, runs, "start", "the runs are replayed from the start")

    @admin.action(description="Resume once more what was repaired already", permissions=["cancel"])
    def resume_once_more(self, request: HttpRequest, runs: Any) -> TemplateResponse | None:
        return self._once_more(request, runs, "resume", "the runs are resumed from what failed")

    def _once_more(self, request: HttpRequest, runs: Any, mode: str, description: str) -> TemplateResponse | None:
        question = confirmation(self.admin_site, request, runs, description)
        if question is None:
            self._repeat(request, runs, mode, force=True)
        return question

    def _repeat(self, request: HttpRequest, runs: Any, mode: str, *, force: bool = False) -> None:
        organizations = Organization.objects.in_bulk({run.org_id for run in runs})

        by = request.user.get_username()

        def repeat(run: Run) -> None:
            made = repair.replay(organizations[run.org_id], run.id, by=by, mode=mode, force=force)
            messages.success(request, f"{run.id}: run {made.run_id} repeats it.")

        self.apply(request, runs, "runs repeated", repeat)

    @admin.display(description="Input")
    def input_json(self, obj: Run) -> SafeString:
        return json_block(obj.input, obj.org_id, "input")

    @admin.display(description="Output")
    def output_json(self, obj: Run) -> SafeString:
        return json_block(obj.output, obj.org_id, "output")

    @admin.display(description="Error")
    def error_json(self, obj: Run) -> SafeString:
        return json_block(obj.error)


class OfNewestRunsChangeList(ChangeList):
    """A member's list of rows of runs: those of the newest runs of its organizations.

    These tables have no index by organization. Read by the primary key, a list of a quiet organization would read those
    of all the others.
    """

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        rows = super().get_queryset(request, exclude_parameters)
        page = self.model_admin
        if access.is_operator(request.user) or not isinstance(page, OfRunsAdmin):
            return rows
        keys: list[Any] = []
        runs = newest_runs(page.organizations_seen(request))
        for start in range(0, len(runs), RUNS_READ_AT_ONCE):
            of_these = rows.filter(run_id__in=runs[start : start + RUNS_READ_AT_ONCE]).order_by()
            keys += of_these.values_list("pk", flat=True)[: MOST_LISTED - len(keys)]
            if len(keys) >= MOST_LISTED:
                break
        return rows.filter(pk__in=keys)


def newest_runs(organizations: Collection[UUID]) -> list[UUID]:
    """The ids of the newest runs of these organizations, at most MOST_RUNS, newest first; each is read by its index."""
    of_each = [
        Run.objects.filter(org_id=each).order_by("-id").values_list("id", flat=True)[:MOST_RUNS]
        for each in sorted(organizations)
    ]
    if len(of_each) < 2:
        return [run_id for rows in of_each for run_id in rows]
    return list(of_each[0].union(*of_each[1:], all=True).order_by("-id")[:MOST_RUNS])


class OfRunsAdmin(BoundedAdmin):
    """Rows of runs; what is left of one that was deleted is not shown."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OfNewestRunsChangeList

    def organizations_seen(self, request: HttpRequest) -> set[UUID]:
        """The organizations whose rows the login sees."""
        return self._seen(request)

    def get_queryset(self, request: HttpRequest) -> Any:
        gone = PrunedRun.objects.filter(run_id=OuterRef("run_id"))
        return super().get_queryset(request).filter(~Exists(gone))


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ("number", "status", "ready_at", "started_at", "ended_at", "error")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> Any:
        """Those of the step's run: the index of attempts begins with it."""
        step = str(request.resolver_match.kwargs.get("object_id", "")) if request.resolver_match else ""
        runs = StepRun.objects.filter(pk=step).values_list("run_id", flat=True) if step else ()
        return super().get_queryset(request).filter(run_id__in=list(runs))


@admin.register(StepRun)
class StepRunAdmin(OfRunsAdmin):
    scope = Scope(path="org_id")
    list_display = ("key", "run_id", "type", "status", "attempt", "losses", "ready_at", "ended_at")
    list_filter = ("status", TypeFilter, QueueFilter)
    inlines = (AttemptInline,)


@admin.register(Attempt)
class AttemptAdmin(OfRunsAdmin):
    scope = Scope(path="org_id")
    list_display = ("step_run_id", "number", "status", "started_at", "ended_at")
    list_filter = ("status",)


@admin.register(Event)
class EventAdmin(BoundedAdmin):
    scope = Scope(path="org_id")
    list_display = ("name", "id", "ts", "received_at", "matched_at", "rejected")
    list_filter = (EventNameFilter,)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "queues", "slots", "active", "unclaimed", "started_at", "seen_at")


@admin.register(LeaderLease)
class LeaderLeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "expires_at")


@admin.register(Wait)
class WaitAdmin(BoundedAdmin):
    """What waiting steps wait for."""

    scope = Scope(path="org_id")
    list_display = ("kind", "event_name", "run_id", "created_at", "expires_at", "taken_by")
    list_filter = ("kind",)


@admin.register(FanOut)
class FanOutAdmin(OfRunsAdmin):
    """Containers, and how far they are."""

    scope = Scope(path="org_id")
    list_display = ("run_id", "kind", "total", "open", "ended", "failed", "parallelism")
    list_filter = ("kind",)


@admin.register(TriggerOutcome)
class TriggerOutcomeAdmin(BoundedAdmin):
    """Why events and requests have no runs of their own."""

    scope = Scope(path="org_id")
    list_display = ("created_at", "code", "reason", "event_id", "run_id")
    list_filter = ("code",)
