"""Jobs on a schedule: cleaning up, and keeping in step with the outside. Each can be started by hand, too."""

from __future__ import annotations

import datetime as dt

from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session

from examples.python.outside import Outside, Row
from workflows.functions import Cron, Debounce, Event, ReceivedEvent, Step, flow

AUDIT_LOGS_KEPT = dt.timedelta(days=90)
TOKENS_KEPT = dt.timedelta(days=7)


# --- cleaning up ------------------------------------------------------------------------------------------------------


@flow("cleanup-expired-sessions", on=Cron("0 3 * * *"))
def cleanup_expired_sessions(event: ReceivedEvent, step: Step) -> Row:
    """Every night at three: the sessions that have expired are deleted."""
    return {"deletedCount": step.run("delete", delete_expired_sessions, step.now())}


@flow("cleanup-expired-tokens", on=Cron("0 3 * * *"))
def cleanup_expired_tokens(event: ReceivedEvent, step: Step) -> Row:
    """Every night at three: the tokens that expired more than a week ago are deleted."""
    outside, limit = Outside.of(step), (step.now() - TOKENS_KEPT).isoformat()
    return {"deletedCount": step.run("delete", outside.delete_before, "auth_tokens", "expires_at", limit)}


@flow("daily-cleanup", on=Cron("0 3 * * *", timezone="UTC", overlap="skip"))
def daily_cleanup(event: ReceivedEvent, step: Step) -> Row:
    """Every night at three: expired sessions, then audit logs that are older than 90 days. Both deletions are
    Django's, and each is one transaction with the record of its step."""
    now = step.now()
    sessions = step.atomic("clean-sessions", delete_expired_sessions, now)
    logs = step.atomic("clean-audit-logs", delete_audit_logs, now - AUDIT_LOGS_KEPT)
    return {"sessionsDeleted": sessions, "logsDeleted": logs}


def delete_expired_sessions(now: dt.datetime) -> int:
    """Returns how many there were."""
    return Session.objects.filter(expire_date__lt=now).delete()[0]


def delete_audit_logs(before: dt.datetime) -> int:
    """Returns how many there were."""
    return LogEntry.objects.filter(action_time__lt=before).delete()[0]


# --- keeping in step --------------------------------------------------------------------------------------------------


@flow("sync-github-metrics", on=Cron("*/15 * * * *"), retry="data_sync")
def sync_github_metrics(event: ReceivedEvent, step: Step) -> Row:
    """Every quarter of an hour: the metrics of all repositories, page by page. A page that fails is asked for again,
    not those before it."""
    outside = Outside.of(step)
    metrics: list[Row] = []
    page: int | None = 1
    while page is not None:
        found = step.run("fetch-metrics", outside.page, "/repos", page)
        metrics += found["items"]
        page = found["next"]
    step.run("store-metrics", outside.upsert, "github_metrics", *metrics)
    return {"repositories": len(metrics)}


@flow("sync-external-data", on=Cron("*/30 * * * *"), retry="data_sync")
def sync_external_data(event: ReceivedEvent, step: Step) -> Row:
    """Every half hour: one call of the service that does the work."""
    outside = Outside.of(step)
    step.run("sync", outside.upsert, "syncs", {"id": str(step.run_id), "at": step.now().isoformat()})
    return {"synced": True}


@flow("generate-sitemap", on=Cron("0 0 * * *"))
def generate_sitemap(event: ReceivedEvent, step: Step) -> Row:
    """At midnight: the sitemap of all pages of the site, which come in pages themselves."""
    outside = Outside.of(step)
    paths: list[str] = []
    page: int | None = 1
    while page is not None:
        found = step.run("list-pages", outside.page, "/pages", page)
        paths += [item["path"] for item in found["items"]]
        page = found["next"]
    step.run("upload", outside.upsert, "files", {"id": "sitemap.xml", "content": sitemap(paths)})
    return {"pages": len(paths)}


def sitemap(paths: list[str]) -> str:
    """The sitemap as XML."""
    entries = "".join(f"<url><loc>{path}</loc></url>" for path in paths)
    return f'<?xml version="1.0" encoding="UTF-8"?><urlset>{entries}</urlset>'


@flow("sitemap-on-change", on=Event("site/changed"), debounce=Debounce("500ms", timeout="1m"))
def sitemap_on_change(event: ReceivedEvent, step: Step) -> Row:
    """The sitemap once more, when half a second has passed without another change: many changes, one sitemap."""
    made: Row = step.invoke("generate", generate_sitemap)
    return made


@flow("every-five-minutes", on=Cron("*/5 * * * *"))
def every_five_minutes(event: ReceivedEvent, step: Step) -> Row:
    """Every five minutes (beside examples/scheduled/every-five-minutes.yaml, which says it in the older spelling)."""
    step.logger.info("five minutes are over", at=step.now().isoformat())
    return {"at": step.now().isoformat()}
