"""The admin as a browser sees it: the forms of its pages, the messages that it shows, and logins of several kinds."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.contrib.messages import constants
from django.test import Client

from workflows.models import Membership, Organization

ENDS = {"submit", "button", "image", "file", "reset"}


class Forms(HTMLParser):
    """The fields of a page's form with this id, as a browser would send them; the options of its selects by name."""

    def __init__(self, page: str, form_id: str) -> None:
        super().__init__()
        self.form_id, self.inside = form_id, False
        self.fields: list[tuple[str, str]] = []
        self.buttons: list[str] = []
        self.options: dict[str, list[str]] = {}
        self._select: tuple[str, bool] | None = None
        self._chosen = False
        self._area: tuple[str, list[str]] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        name = has.get("name") or ""
        if tag == "form":
            self.inside = has.get("id") == self.form_id
        if not self.inside:
            return
        if tag == "input":
            self._input(has, name)
        elif tag == "button" and name:
            self.buttons.append(name)
        elif tag == "select":
            self._select, self._chosen = (name, "multiple" in has), False
            self.options[name] = []
        elif tag == "option" and self._select is not None:
            value = has.get("value") or ""
            self.options[self._select[0]].append(value)
            if "selected" in has:
                self.fields.append((self._select[0], value))
                self._chosen = True
        elif tag == "textarea":
            self._area = (name, [])

    def _input(self, has: dict[str, str | None], name: str) -> None:
        kind = has.get("type") or "text"
        if kind in ENDS:
            self.buttons.append(name)
        elif name and (kind not in {"checkbox", "radio"} or "checked" in has):
            self.fields.append((name, has.get("value") or ("on" if kind == "checkbox" else "")))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False
        elif tag == "select" and self._select is not None:
            name, many = self._select
            if not self._chosen and not many and self.options[name]:
                self.fields.append((name, self.options[name][0]))
            self._select = None
        elif tag == "textarea" and self._area is not None:
            name, texts = self._area
            self.fields.append((name, "".join(texts).removeprefix("\n")))
            self._area = None

    @property
    def data(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in self.fields:
            found.setdefault(name, []).append(value)
        return found


def staff(
    permissions: Iterable[str] = (),
    *,
    superuser: bool = False,
    of: Organization | None = None,
    role: str = "viewer",
) -> Client:
    """A browser that is logged in as staff with these permissions (`headrace_workflows.view_run`), as a member of an
    organization in a role."""
    user = User.objects.create_user(f"staff-{uuid.uuid4().hex[:10]}", is_staff=True, is_superuser=superuser)
    for name in permissions:
        app, _, code = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=code))
    if of is not None:
        Membership.objects.create(organization=of, user=user, role=role)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def said(answer: Any) -> list[tuple[int, str]]:
    """The messages that a page shows: (level, text)."""
    assert answer.status_code == 200, (answer.status_code, answer.content[:300])
    return [(each.level, str(each)) for each in answer.context["messages"]]


def successes(answer: Any) -> list[str]:
    """What a page says that was done."""
    return [text for level, text in said(answer) if level == constants.SUCCESS]


def act(client: Client, address: str, action: str, *keys: Any) -> Any:
    """Choose an action for rows of a list; the page that is shown then."""
    sent = {"action": action, "_selected_action": [str(key) for key in keys], "index": "0"}
    return client.post(address, sent, follow=True)
