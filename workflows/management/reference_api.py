"""The reference of the REST API, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from django.utils.module_loading import import_string

from workflows.management.reference_forms import page, rows_of, type_of


def api_page() -> str:
    """The REST routes, from the OpenAPI schema."""
    api = import_string("config.api.api")  # the whole project's: this app may not know it

    schema = api.get_openapi_schema()
    parts = [
        "`Authorization: Bearer <API key>`. JSON is camelCase, times are ISO 8601, durations milliseconds. Errors are "
        "problem documents (RFC 9457): `{type, title, status, code, detail}`. Every operation may answer 400, 401, "
        "422 and 503; one with an id 404 (405 where that is empty); one with a body 413; one that changes something 403, "
        "404, 409 and 429; the start of runs 507. Try the routes at `/api/docs`.",
        "A query may hold the parameters that the operation declares, each once. Any other name, and one that is given "
        "twice, is refused (422) with the names that there are. A flow is `flow` everywhere; filters still read the old "
        "`workflow`, and answers keep it beside `flow`. (`/e`, `/hooks` and callbacks take whatever senders append.)",
        "`GET /healthz` (liveness) and `GET /readyz` (readiness) need no key: [what they check]"
        "(../howto/run_in_production.md#web).",
        "`GET /api/stream` and `GET /api/runs/{id}/stream` are server-sent events: "
        "[how to follow](../howto/wait_and_compose.md#follow-a-run-live). At most 20 streams by key or session, 100 by "
        "organization and 200 in all by web process; one more gives 429 `too_many_streams` with `Retry-After`.",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            described = operation.get("description", ""), _parameters(operation, schema), _answers(operation, schema)
            parts.append("\n\n".join([f"## {method.upper()} {path}", *filter(None, described)]))
    return page("REST API", *parts)


def _answers(operation: dict[str, Any], schema: dict[str, Any]) -> str:
    """Each successful status with the fields of its body."""
    lines = []
    for status, response in operation["responses"].items():
        if int(status) < 300:
            (content,) = response["content"].values()
            lines.append(f"Answers {status} with {_fields_of(content['schema'], schema['components']['schemas'])}.")
    return "\n".join(lines)


def _fields_of(form: dict[str, Any], components: dict[str, Any]) -> str:
    if "anyOf" in form:
        return ", or ".join(_fields_of(each, components) for each in form["anyOf"])
    if form.get("type") == "array":
        return f"a list, each with {_fields_of(form['items'], components)}"
    named = components[form["$ref"].rsplit("/", 1)[1]] if "$ref" in form else form
    return ", ".join(f"`{name}`" for name in named["properties"])


def _parameters(operation: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = [
        (f"`{p['name']}`", p["in"], type_of(p["schema"], {"$defs": schema["components"]["schemas"]}), "")
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    options = [each for option in (body.get("anyOf") or [body]) for each in (option.get("oneOf") or [option])]
    references = [option["$ref"] for option in options if "$ref" in option]
    for reference in references:
        model = schema["components"]["schemas"][reference.rsplit("/", 1)[1]]
        rows += [
            (
                f"`{name}`",
                "body",
                type_of(field, {"$defs": schema["components"]["schemas"]}),
                field.get("description", ""),
            )
            for name, field in model.get("properties", {}).items()
        ]
    return rows_of(("parameter", "in", "type", ""), iter(rows)) if rows else ""
