"""What the walks through all addresses have to be told: what is nobody's, what a request takes, and what says nothing."""

from __future__ import annotations

from typing import Any

OF_NOBODY = {
    "favicon.ico": "a picture",
    "healthz": "whether the process lives",
    "readyz": "whether the installation's services answer",
    "login/": "before a login there is no organization",
    "admin/login/": "before a login there is no organization",
    "logout/": "ends the login's own session",
    "admin/logout/": "ends the login's own session",
    "admin/password_change/": "the login's own password",
    "admin/password_change/done/": "the login's own password",
    "admin/jsi18n/": "words of Django",
    "admin/auth/user/<id>/password/": "the page of a model of the installation: test_pages_of_the_installation",
    "admin/(?P<url>.*)": "Django's answer to what is no page of the admin: adds a slash, else 404",
    "api/": "the name of the API's root; there is nothing at it",
    "api/docs": "the documentation of the API",
    "api/openapi.json": "the documentation of the API",
    "api/step-types": "the step types of the installation, the same for all",
    "api/queues/<name>/pause": "a queue is the installation's: test_a_queue_takes_an_operators_key",
    "api/queues/<name>/resume": "a queue is the installation's: test_a_queue_takes_an_operators_key",
    "alerts/channels/environment/test/": "the environment's: test_what_is_the_installations_takes_an_operator_of_it",
    "workers/queues/<name>/<verb>/": "the installation's: test_what_is_the_installations_takes_an_operator_of_it",
    "e/<key>": "the key is the organization's own: test_a_key_leads_to_its_own_organization",
    "hooks/<token>": "the token is the trigger's own: test_a_key_leads_to_its_own_organization",
    "callbacks/<token>": "the token is the step's own: test_a_key_leads_to_its_own_organization",
}
"""Patterns that show and change nothing of an organization, and why."""
NUMBERS = {"api/workflows/queue/stats", "api/dlq/stats", "api/limits/report", "api/organization/quotas"}
"""Lists that name nothing: of an organization without anything they are all zero (test_counts_are_of_ones_own)."""
SAYS_NOTHING = {
    "api/redaction": "the rules are the key's organization's own",
    "api/organization/retention": "the rules are the key's organization's own; what is deleted is one count for all",
    "runs/counts/": "numbers for each status: test_counts_of_pages_are_of_ones_own",
    "overview/now/": "numbers of the organization, by minute and status: tests/integration/dashboard/test_overview.py",
    "flows/~new/": "the example of a new flow, the same for everybody",
    "events/new/": "one number: test_counts_of_pages_are_of_ones_own",
    "letters/bulk/trial/": "what a repair would do to some letters of the filter, by number",
}
"""Lists without anything that could name its organization, and why."""
NOT_OF_NOW = {"limits/one/": "only limits that somebody uses at the moment have a page"}
"""Lists that have nothing of the own organization either in these tests, and why."""
NAMES_NOTHING = {"kind", "action", "subject", "verb"}
"""Parameters that are words of ours, and name no object."""
NOT_404 = {
    ("put", "api/events/schemas/<name>"): "a name is each organization's own: it makes its own schema",
    ("delete", "api/events/schemas/<name>"): "a name is each organization's own: there is nothing to remove",
    ("put", "api/secrets/<name>"): "a name is each organization's own: it stores its own secret",
    ("post", "runs/views/<view_id>/delete/"): "a view is its login's own: of what is not there nothing is deleted",
    ("post", "approvals/<step_run_id>/"): "what was decided meanwhile is a message on the list of approvals",
}
"""What answers otherwise than with 404, as it does for what is not there at all; and why."""
SPEAKS_OF_ITSELF = {"api/organization/pause", "api/organization/resume", "api/scheduler/refresh", "api/limits", "switch/",
                    "organization/members/", "organization/members/remove/", "api/runs/bulk/cancel",
                    "api/runs/bulk/replay", "api/dlq/replay", "api/dlq/ignore", "api/keys", "api/redaction",
                    "api/organization/retention/<subject>", "runs/chosen/<action>/", "runs/matching/<action>/",
                    "flows/~new/", "runs/views/", "test/", "test/events/", "events/schemas/", "events/schemas/delete/",
                    "letters/chosen/", "letters/bulk/start/", "limits/change/", "limits/change/remove/",
                    "workers/organization/<verb>/", "keys/", "secrets/", "secrets/delete/", "retention/"}  # fmt: skip
"""Addresses without an object that change something: whatever they do, nothing of another organization changes."""
BODIES: dict[str, Any] = {
    "api/runs/<run_id>/fork": {"fromSteps": ["a"], "dryRun": True},
    "api/runs/<run_id>/replay": {"dryRun": True},
    "api/dlq/<letter_id>/replay": {"dryRun": True},
    "api/dlq/<letter_id>/ignore": {"reason": "x"},
    "api/events/schemas/<name>": {"schema": {"type": "object"}},
    "api/dlq/groups/<group>/assign": {"assignee": "x"},
    "api/dlq/groups/<group>/comments": {"text": "x"},
    "api/dlq/groups/<group>/snooze": {"for": "1h"},
    "api/dlq/groups/<group>/auto-replay": {"after": "1h"},
    "api/approvals/<step_run_id>": {"decision": "approve"},
    "api/runs/bulk/cancel": {"all": True},
    "api/runs/bulk/replay": {"all": True},
    "api/dlq/replay": {"all": True},
    "api/dlq/ignore": {"all": True, "reason": "x"},
    "api/limits": {"scope": "org", "concurrency": 3},
    "api/keys": {"name": "another"},
    "api/redaction": {"rules": ["password"]},
    "api/secrets/<name>": {"value": "a-long-value"},
    "api/keys/<key_id>/rename": {"name": "another"},
    "keys/": [("kind", "api"), ("name", "mine"), ("rights", "all")],
    "keys/<key_id>/rotate/": [("overlap", "24h")],
    "keys/<key_id>/rename/": [("name", "another")],
    "secrets/": [("name", "MINE"), ("value", "a-long-value")],
    "secrets/delete/": [("name", "secret_name"), ("flows", "")],
    "retention/": [("subject", "events"), ("days", "3"), ("do", "set")],
    "api/organization/retention/<subject>": {"days": 3},
    "approvals/<step_run_id>/": [("decision", "approve")],
    "runs/<run_id>/repeat/": [("mode", "start"), ("version", "current"), ("input", "{}"), ("go", "preview")],
    "runs/chosen/<action>/": [("run", "run_id")],
    "runs/matching/<action>/": [("pace", "5")],
    "limits/change/": [("scope", "limit"), ("name", "limit_name"), ("concurrency", "5"), ("do", "save")],
    "limits/change/remove/": [("scope", "org"), ("seen", "")],
    "flows/~new/": [("text", "{flow: fresh, steps: [{id: a, type: noop}]}"), ("seen", "0"), ("go", "publish")],
    "flows/<slug>/edit/": [("text", "{}"), ("seen", "1"), ("go", "check")],
    "runs/views/": [("name", "mine"), ("query", "status=failed")],
    "test/": [("flow", "slug"), ("input", "{}")],
    "test/events/": [("events", '{"name": "own/x"}')],
    "events/schemas/": [("name", "name"), ("schema", '{"type": "object"}'), ("seen", "")],
    "events/schemas/delete/": [("name", "name"), ("seen", "")],
    "letters/chosen/": [("letter", "letter_id:failed"), ("action", "ignore"), ("reason", "x")],
    "letters/bulk/start/": [("action", "ignore"), ("reason", "x"), ("group", "group_id")],
    "letters/<letter_id>/repair/": [("mode", "start"), ("seen", "failed")],
    "letters/<letter_id>/ignore/": [("reason", "x"), ("seen", "failed")],
    "letters/<letter_id>/reopen/": [("seen", "ignored")],
    "letters/causes/<group_id>/assign/": [("assignee", "x")],
    "letters/causes/<group_id>/comments/": [("text", "x")],
    "letters/causes/<group_id>/snooze/": [("for", "1h")],
    "letters/causes/<group_id>/automatic/": [("after", "1h")],
    "switch/": [("organization", "THEIRS")],
    "organization/members/": [("member", "THEIRS"), ("role", "admin")],
    "organization/members/remove/": [("member", "THEIRS")],
}
"""What a request takes to be understood; of a form, the name of a parameter stands for the other organization's."""
QUERIES = {
    "api/limits/explain": "stepRun={step_run_id}",
    "api/workflows/<slug>": "history=keep",
    "runs/<run_id>/compare/": "with={run_id}",
}
LIST_QUERIES = {
    "events/new/": "after=00000000-0000-7000-8000-000000000000",
    "test/events/sent/": "ids={event_id}",
    "limits/change/": "scope=flow&flow={slug}",
    "limits/one/": "limit={limit_name}",
    "overview/runs/": "kind=ended&since={hour_ago}&until={hour_on}",
    "test/": "like={run_id}&flow={slug}",
    "letters/bulk/": "action=ignore&group={group_id}",
    "letters/bulk/trial/": "action=replay&group={group_id}",
}
"""What a list is asked for, of the organization whose it is; another one's ids are asked for too."""
DELETES = {"api/limits": "scope=org"}
NAMES_THEIRS = {"limits/change/", "switch/", "test/", "events/schemas/", "letters/bulk/start/"}
"""Forms that name something of the other organization, and may be refused as a whole for that."""
AFTER = {
    ("post", "api/organization/resume"): ("post", "api/organization/pause"),
    ("delete", "api/limits"): ("put", "api/limits"),
}
"""What has to be done before, so that there is something to be done."""
