"""The audit log of the pages: one entry for each form that changed something, in one transaction with the change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from workflows.models import AuditEntry, Organization
from workflows.services.access import audit, changes

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PREFIXES: Mapping[str, str] = {"headrace-letters": "letters:", "headrace-alerts": "alerts:"}
"""By the app of pages that lie elsewhere: how their names begin here."""
VERBS: Mapping[str, tuple[str, str, str]] = {
    "cancel": ("run.cancel", "run", "run_id"),
    "replay": ("run.replay", "run", "run_id"),
    "repeat": ("run.{mode}", "run", "run_id"),
    "chosen_runs": ("runs.{action}", "runs", ""),
    "matching_runs": ("runs.{action}", "operation", ""),
    "turn_operation": ("operation.{what}", "operation", "operation_id"),
    "save_view": ("view.save", "view", "name"),
    "delete_view": ("view.delete", "view", "view_id"),
    "test": ("flow.run", "flow", "flow"),
    "test_events": ("event.send", "event", ""),
    "resend_event": ("event.resend", "event", "event_id"),
    "event_schemas": ("event_schema.set", "event schema", "name"),
    "delete_schema": ("event_schema.delete", "event schema", "name"),
    "new_flow": ("flow.publish", "flow", ""),
    "edit_flow": ("flow.publish", "flow", "slug"),
    "act_on_flow": ("flow.{mode}", "flow", "slug"),
    "switch_trigger": ("trigger.switch", "trigger", "trigger_id"),
    "approval": ("approval.decide", "approval", "step_run_id"),
    "keys": ("key.issue", "key", ""),
    "rotate_key": ("key.rotate", "key", "key_id"),
    "revoke_key": ("key.revoke", "key", "key_id"),
    "rename_key": ("key.rename", "key", "key_id"),
    "secrets": ("secret.set", "secret", "name"),
    "delete_secret": ("secret.delete", "secret", "name"),
    "retention": ("retention.{do}", "retention", "subject"),
    "put_member": ("member.set", "member", "member"),
    "remove_member": ("member.remove", "member", "member"),
    "change_limit": ("limit.set", "limit", ""),
    "remove_limit": ("limit.delete", "limit", ""),
    "turn_queue": ("queue.{verb}", "queue", "name"),
    "turn_organization": ("organization.{verb}", "organization", ""),
    "alerts:rule": ("alert_rule.{verb}", "alert rule", "name"),
    "alerts:channel": ("channel.{verb}", "channel", "channel_id"),
    "alerts:try_configured": ("channel.test", "channel", ""),
    "letters:assign": ("group.assign", "dead letter group", "group_id"),
    "letters:comment": ("group.comment", "dead letter group", "group_id"),
    "letters:snooze": ("group.snooze", "dead letter group", "group_id"),
    "letters:automatic": ("group.auto_replay", "dead letter group", "group_id"),
    "letters:chosen": ("dead_letters.{action}", "dead letters", ""),
    "letters:start": ("dead_letters.{action}", "operation", ""),
    "letters:turn": ("operation.{verb}", "operation", "operation_id"),
    "letters:repair": ("dead_letter.replay", "dead letter", "letter_id"),
    "letters:ignore": ("dead_letter.ignore", "dead letter", "letter_id"),
    "letters:reopen": ("dead_letter.reopen", "dead letter", "letter_id"),
}
"""By the name of a page: the verb, and what it is done to, as the API has them; `{name}`: a word of the address or of
the form. A page that is not here is `page.<its name>`, and a test names it."""
SAME = {"start": "replay", "resume": "replay"}
"""Ways of repeating runs and letters, by the word of their verb: the details say which."""
REPEATS = frozenset({"repeat", "chosen_runs", "matching_runs", "letters:chosen", "letters:start"})
"""Pages whose words are SAME."""
BY_PARTS = frozenset({
    "chosen_runs", "matching_runs", "letters:chosen", "letters:start", "act_on_flow delete", "change_limit",
    "alerts:channel", "alerts:try_configured", "test", "test_events", "delete_secret",
})  # fmt: skip
"""Pages with several transactions, with a long look before them, or that call the network: their entries are written
after the last one."""
PREVIEWS = frozenset({"repeat", "letters:repair", "change_limit", "new_flow", "edit_flow"})
"""Pages that show first what they would do: they have done it where they lead on to another page."""
OF_FRAME = frozenset({"csrfmiddlewaretoken", "org", "once"})
"""Fields of forms that say nothing of the change."""
_MADE, _OF_ALL = "_audited_id", "_audited_of_all"
_WORD = re.compile(r"[a-z][a-z_-]{0,29}")


def page(
    request: HttpRequest, organization: Organization, view: Callable[[], HttpResponseBase], kwargs: Mapping[str, Any]
) -> HttpResponseBase:
    """The answer of a page; with it, where it has changed something, the entry."""
    if request.method in SAFE:
        return view()
    name = name_of(request)
    if not BY_PARTS.isdisjoint({name, f"{name} {kwargs.get('mode', '')}"}):
        with changes.collected():
            response = view()
            _write(request, organization, name, kwargs, response)
        return response
    with changes.collected(), transaction.atomic():
        response = view()
        _write(request, organization, name, kwargs, response)
    return response


def name_made(request: HttpRequest, id_: object) -> None:
    """Say what the form has made, for its entry: the form itself doesn't name what is new."""
    setattr(request, _MADE, str(id_))


def of_all(request: HttpRequest) -> None:
    """Say that the change holds for all organizations: its entry belongs to none of them."""
    setattr(request, _OF_ALL, True)


def name_of(request: HttpRequest) -> str:
    """The name of the page that a request is for, as VERBS has it."""
    match = request.resolver_match
    name = match.url_name if match is not None and match.url_name else "page"
    apps = match.app_names if match is not None else []
    return next((prefix for app, prefix in PREFIXES.items() if app in apps), "") + name


def _write(
    request: HttpRequest, organization: Organization, name: str, kwargs: Mapping[str, Any], response: HttpResponseBase
) -> None:
    if response.status_code >= 400 or (name in PREVIEWS and response.status_code < 300) or _is_refused(request):
        return
    verb, kind, id_ = VERBS.get(name, (f"page.{name.replace(':', '.')}", "", ""))
    actor = audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username())
    form = {
        key: values[0] if len(values) == 1 else values for key, values in request.POST.lists() if key not in OF_FRAME
    }
    given = {**form, **{key: str(value) for key, value in kwargs.items()}}
    details = {key: value for key, value in given.items() if value not in ("", [])}
    words = re.sub(r"{(\w+)}", lambda named: _word(name, given.get(named[1])), verb)
    org_id = None if getattr(request, _OF_ALL, False) else organization.id
    id_of = getattr(request, _MADE, "") or given.get(id_, "")
    audit.record(org_id, actor, words, kind=kind, id=id_of, details=details)


def _word(name: str, given: Any) -> str:
    """A word of a verb: nothing that somebody may have made up."""
    word = given if isinstance(given, str) and _WORD.fullmatch(given) else "change"
    return SAME.get(word, word) if name in REPEATS else word


def _is_refused(request: HttpRequest) -> bool:
    """Whether the page says that nothing could be done: pages say so in a message, and show the list again."""
    said = getattr(messages.get_messages(request), "_queued_messages", ())  # reading them would use them up
    return bool(said) and all(each.level >= messages.WARNING for each in said)
