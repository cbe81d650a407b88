"""A report that takes its time: gathered, rendered, stored, and its user notified. `GET /api/jobs/<id>` shows how far
it is."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Literal

from pydantic import BaseModel, Field

from examples.python.outside import Outside, Row
from workflows.functions import Event, ReceivedEvent, Step, flow


class DateRange(BaseModel):
    """From the first day to the last."""

    start: dt.date
    end: dt.date


class ReportRequest(BaseModel):
    """The data of `report/generate`."""

    reportType: Literal["analytics", "users", "content"]
    dateRange: DateRange
    userId: str = Field(min_length=1)


@flow("report-generate", on=Event("report/generate", model=ReportRequest), retry="report")
def report_generate(event: ReceivedEvent, step: Step) -> Row:
    """Generate a report. What fails in it fails the same way again: two more tries, at once (the preset `report`)."""
    outside, request = Outside.of(step), event.data
    data = step.run("generate-data", generate_data, request)
    step.progress(40, "data gathered")
    document = step.run("generate-pdf", render, data)
    step.progress(80, "rendered")
    address = step.run("upload", store, outside, f"reports/{step.run_id}.pdf", document)
    step.run(
        "notify-user", outside.upsert, "notifications",
        {"id": str(step.run_id), "userId": request.userId, "type": "report_ready", "downloadUrl": address},
    )  # fmt: skip
    return {"downloadUrl": address, "rows": len(data["rows"])}


def generate_data(request: ReportRequest) -> Row:
    """A row for each day of the range."""
    first, last = request.dateRange.start, request.dateRange.end
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    rows = [{"day": day.isoformat(), "views": day.toordinal() % 1000} for day in days]
    return {"title": f"{request.reportType} {first} – {last}", "rows": rows}


def render(data: Row) -> str:
    """The document, in base64: what a step returns is JSON."""
    lines = [data["title"], *(f"{row['day']} {row['views']}" for row in data["rows"])]
    return base64.b64encode("\n".join(lines).encode()).decode()


def store(outside: Outside, path: str, document: str) -> str:
    """Upload the document. Returns its path."""
    outside.upsert("files", {"id": path, "size": len(base64.b64decode(document)), "content": document})
    return path
