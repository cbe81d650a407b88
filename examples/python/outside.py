"""The services that the examples call: mail, chat, payments, tables. Here `examples/server.py` is all of them.

A flow makes its client with `Outside.of(step)`, and gives the client's methods to `step.run`. What must not happen
twice has a key: a step may be performed again after a crash.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from workflows.functions import Step

SECRET = "SERVICES_URL"  # noqa: S105  (the name of a stored secret)
Row = dict[str, Any]


@functools.cache
def _client() -> httpx.Client:
    return httpx.Client(timeout=10)


class Outside:
    """The services at one address. Each method raises httpx.HTTPStatusError for an answer that is no success: its
    status says whether the step is tried again (docs/reference/errors.md)."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    @classmethod
    def of(cls, step: Step) -> Outside:
        """The services that the organization's stored secret names."""
        return cls(step.secret(SECRET))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = "",
        timeout_s: float = 10,
        **query: Any,
    ) -> httpx.Response:
        """Any request. `key`: the services take what has it once."""
        answer = _client().request(
            method,
            f"{self.base_url}{path}",
            json=body,
            params=query or None,
            headers={"idempotency-key": key} if key else {},
            timeout=timeout_s,
        )
        return answer.raise_for_status()

    # --- mail, chat, payments -----------------------------------------------------------------------------------------

    def send_mail(self, to: str, template: str, key: str, **data: Any) -> Row:
        """Send a mail, once for each key."""
        body = {"to": to, "template": template, "data": data}
        answer: Row = self.call("POST", "/v3/mail/send", body, key=key).json()
        return answer

    def slack(self, channel: str, text: str, key: str, **details: Any) -> None:
        """Write into a channel, once for each key."""
        self.call("POST", f"/slack/{channel}", {"text": text, "details": details}, key=key)

    def charge(self, amount: int, currency: str, key: str, **metadata: Any) -> Row:
        """Charge an amount, once for each key. Returns {id, amount, paid}."""
        body = {"amount": amount, "currency": currency, "metadata": metadata}
        answer: Row = self.call("POST", "/v1/charges", body, key=key).json()
        return answer

    def track(self, event: str, key: str, **properties: Any) -> None:
        """Tell analytics, once for each key."""
        self.call("POST", "/analytics/track", {"event": event, **properties}, key=key)

    # --- tables -------------------------------------------------------------------------------------------------------

    def find(self, table: str, **filters: Any) -> list[Row]:
        """The rows whose fields are equal to the filters."""
        rows: list[Row] = self.call("GET", f"/rest/{table}", **filters).json()
        return rows

    def first(self, table: str, **filters: Any) -> Row | None:
        """The first of these rows; None where there is none."""
        return next(iter(self.find(table, **filters)), None)

    def upsert(self, table: str, *rows: Row) -> list[Row]:
        """Insert rows; those whose `id` is there are changed. Performed again, it changes nothing."""
        stored: list[Row] = self.call("POST", f"/rest/{table}", list(rows)).json()
        return stored

    def update(self, table: str, id_: str, **changes: Any) -> Row:
        """Change a row."""
        row: Row = self.call("PATCH", f"/rest/{table}/{id_}", changes).json()
        return row

    def delete_before(self, table: str, field: str, limit: str) -> int:
        """Delete the rows whose field is below the limit. Returns how many."""
        filters: dict[str, Any] = {f"{field}.lt": limit}
        count: int = self.call("DELETE", f"/rest/{table}", **filters).json()["count"]
        return count

    # --- lists --------------------------------------------------------------------------------------------------------

    def page(self, path: str, page: int) -> Row:
        """A page of a list: {items, next}; `next` is None on the last."""
        answer: Row = self.call("GET", path, page=page).json()
        return answer

    def records(self, file: str) -> list[Row]:
        """The records of a CSV file, each with its fields by the names in the first line."""
        lines = self.call("GET", f"/files/{file}").text.splitlines()
        names = lines[0].split(",")
        return [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items in lists of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
