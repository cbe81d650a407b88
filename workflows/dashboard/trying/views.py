"""Starting a flow or sending events by hand, from a form that its schema makes or from JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from throttling.policy import PRIORITY_LEVELS
from workflows import presenters, services
from workflows.dashboard.access import page, user_id
from workflows.dashboard.run.repeat import input_schema
from workflows.dashboard.trying.begun import begin_of, shown_examples
from workflows.edge import tags
from workflows.edge.access import RUN_FLOWS
from workflows.edge.values import identifier
from workflows.engine.pipeline.trigger import Triggered
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Example, Organization
from workflows.selectors import events as event_selectors
from workflows.selectors.pages import flows as flow_selectors
from workflows.services.own import examples
from workflows.services.tenancy import quotas

MAX_CHARACTERS = 1_000_000
MAX_TEXT = 200
SHOWN_EVENTS = 20
NAMES_SHOWN = 100
EVENT = {"name": "order/created", "data": {"orderId": "A-1"}}


@page(RUN_FLOWS)
@require_http_methods(["GET", "POST"])
def flow(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Run a flow: the form, and the new run. `?like=`: with the input of that run, `?example=`: of an earlier try."""
    given = request.POST if request.method == "POST" else request.GET
    flows = flow_selectors.flow_names(organization, published=True)
    slug = given.get("flow", "").strip() or (flows.slugs[0] if flows.slugs else "")
    kept = examples.of(organization, user_id(request), "flow", slug)
    context: dict[str, Any] = {
        "flows": flows,
        "slug": slug,
        "levels": sorted(PRIORITY_LEVELS, key=lambda name: -PRIORITY_LEVELS[name]),
        "given": given,
        "examples": shown_examples(organization, kept, name="input"),
        **_elsewhere(request, organization),
    }
    try:
        if slug:
            context |= input_schema(services.published(organization, slug))
        begin = begin_of(organization, _with_last(request, kept), kept, name="input")
        context["begin"] = begin
        context["text"] = given["input"] if request.method == "POST" else begin.text or _first_text(context)
        if request.method == "POST":
            value = begin.meant(_json(request.POST["input"], "input"))
            started = _start(request, organization, slug, value)
            text = _as_sent(request.POST["input"], value)
            examples.remember(organization, user_id(request), kind="flow", name=slug, text=text)
            return _to_run(request, slug, started)
    except KeyError:
        context |= {"error": "input: the form has none; write {} for an empty one.", "text": "{}"}
    except WorkflowsError as error:
        context |= {"error": str(error), "text": context.get("text") or given.get("input", "{}")}
    return render(request, "headrace/test/flow.html", context, status=422 if context.get("error") else 200)


def _elsewhere(request: HttpRequest, organization: Organization) -> dict[str, Any]:
    """What the lines say that do the same from elsewhere."""
    return {
        "base": request.build_absolute_uri(reverse("headrace:runs")),
        "organization": organization,
        "root": services.__name__.removesuffix(".services"),
    }


def _with_last(request: HttpRequest, kept: Sequence[Example]) -> Mapping[str, Any]:
    """What the form begins with: what it names itself; where it names nothing, the last try."""
    if request.method == "POST":
        return request.POST
    asked = {name: request.GET.get(name, "") for name in ("like", "example")}
    if not any(asked.values()) and kept and not request.GET.get("new"):
        asked["example"] = str(kept[0].id)
    return asked


def _as_sent(text: str, value: Any) -> str:
    """The text of a try that is remembered: as it was written, unless hidden values were put into it."""
    return text if value == json.loads(text or "{}") else json.dumps(value, indent=2, ensure_ascii=False)


def _first_text(context: Mapping[str, Any]) -> str:
    """The input of a new form: the schema's own example, or its defaults."""
    schema = json.loads(context.get("schema_json") or "{}")
    shown = schema.get("examples") if isinstance(schema.get("examples"), list) else None
    value = shown[0] if shown else _defaults(schema)
    return json.dumps(value, indent=2, ensure_ascii=False)


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of an object's properties."""
    properties = schema.get("properties")
    fields = properties if isinstance(properties, dict) else {}
    return {name: each["default"] for name, each in fields.items() if isinstance(each, dict) and "default" in each}


def _start(request: HttpRequest, organization: Organization, slug: str, value: Any) -> Triggered:
    """Start the run that the form describes. Raises WorkflowsError for what is wrong with it."""
    form: Mapping[str, Any] = request.POST
    return services.trigger(
        organization,
        slug,
        value,
        priority=form.get("priority") or None,
        delay=form.get("delay") or None,
        idempotency_key=_short(form, "key"),
        user_id=_short(form, "userId"),
        tags=tags.wanted(str(form.get("tags", "")).replace(" ", ",")),
        kind="manual",
        charge=quotas.charge_of(organization),
    )


def _short(form: Mapping[str, Any], name: str) -> str:
    text = str(form.get(name, ""))
    if len(text) > MAX_TEXT:
        raise InvalidInput(f"{name}: at most {MAX_TEXT} characters.")
    return text


def _to_run(request: HttpRequest, slug: str, started: Triggered) -> HttpResponse:
    """To the run that was made, or to the one in its place, with what became of the try; else to the form."""
    run_id: UUID | None = started.run_ids[0]
    refusal = next(iter(started.refused.values()), None)
    if refusal is not None:
        run_id = refusal.run_id
        messages.warning(request, f"No new run was made: {refusal.reason}")
    elif started.pruned:
        run_id = None
        messages.warning(request, "No new run was made: an earlier run has this key; it has ended and is deleted.")
    elif started.existing:
        messages.warning(request, "No new run was made: this earlier run has the key.")
    else:
        messages.success(request, f"A run of {slug} is made. This page follows it.")
    if run_id is None:
        return redirect(f"{reverse('headrace:test')}?{urlencode({'flow': slug})}")
    return redirect("headrace:run", run_id=run_id)


def _json(text: str, name: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"{name}: at most {MAX_CHARACTERS:,} characters can be sent from here; use the API.")
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}: this is no JSON ({error}).") from None


@page(RUN_FLOWS)
@require_http_methods(["GET", "POST"])
def events(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Send one event or an array of them, and follow the runs that they make."""
    kept = examples.of(organization, user_id(request), "event", "")
    begin = begin_of(organization, {"example": _with_last(request, kept).get("example", "")}, kept, name="")
    first = begin.text or json.dumps(EVENT, indent=2)
    text = request.POST.get("events", "") if request.method == "POST" else first
    context: dict[str, Any] = {
        "text": text,
        "begin": begin,
        "examples": shown_examples(organization, kept, name=""),
        "names": _names(organization),
        **_elsewhere(request, organization),
    }
    if request.method == "POST":
        try:
            value = begin.meant(_json(text, "events"))
            ids = services.send_events(organization, value, before_storing=quotas.charge_of(organization))
            sent_text = _as_sent(text, value)
            examples.remember(organization, user_id(request), kind="event", name="", text=sent_text)
            chosen = ",".join(str(id_) for id_ in ids[:SHOWN_EVENTS])
            messages.success(request, f"{len(ids)} event{'s are' if len(ids) != 1 else ' is'} received.")
            return redirect(f"{reverse('headrace:sent_events')}?ids={chosen}")
        except WorkflowsError as error:
            context["error"] = str(error)
    return render(request, "headrace/test/events.html", context, status=422 if context.get("error") else 200)


def _names(organization: Organization) -> list[str]:
    """The first names of events that somebody listens to, or that have a schema."""
    names = {*flow_selectors.heard_events(organization), *event_selectors.names_with_schema(organization)}
    return sorted(names)[:NAMES_SHOWN]


@page()
@require_GET
def sent(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What came of events: the runs that they made, or why there is none; the part alone for htmx."""
    ids = [id_ for text in request.GET.get("ids", "").split(",")[:SHOWN_EVENTS] if (id_ := _id_of(text))]
    found = event_selectors.event_details(organization, ids)
    runs: dict[UUID | None, list[dict[str, Any]]] = defaultdict(list)
    made = [run for each in found for run in each.runs]
    for run, summary in zip(made, presenters.run_summaries(made), strict=True):
        runs[run.event_id].append(summary)
    rows: list[dict[str, Any]] = [
        {
            "event": each.event,
            "runs": runs[each.event.id],
            "outcomes": [presenters.outcome_out(outcome, each.flows) for outcome in each.outcomes],
            "is_open": each.is_unmatched,
        }
        for each in found
    ]
    live = any(row["is_open"] for row in rows) or any(run["endedAt"] is None for row in rows for run in row["runs"])
    template = "headrace/test/_sent.html" if request.headers.get("HX-Request") else "headrace/test/sent.html"
    return render(request, template, {"rows": rows, "live": live, "ids": request.GET.get("ids", "")})


def _id_of(text: str) -> UUID | None:
    try:
        return identifier(text, "ids")
    except InvalidInput:
        return None
