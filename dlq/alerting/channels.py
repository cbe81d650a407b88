"""Where alerts go: rows with an apprise address, the addresses of HEADRACE_ALERT_URLS, and Sentry."""

from __future__ import annotations

from dlq.models import Alert, AlertChannel, AlertNotification
from workflows.edge.extras import MissingExtra, extra
from workflows.errors import WorkflowsError
from workflows.this_process.configuration import configuration

ENVIRONMENT = "environment"
SENTRY = "sentry"
_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}
_LEVELS = {"info": "info", "warning": "warning", "critical": "error"}


def configured() -> list[str]:
    """The channels that the environment sets up."""
    return [*([ENVIRONMENT] if configuration().alert_urls else []), *([SENTRY] if configuration().sentry_dsn else [])]


def problem_of(url: str) -> str | None:
    """What is wrong with an address; None where apprise can use it."""
    apprise = extra("apprise", "alerts")  # large: only processes that deliver load it
    if apprise.Apprise.instantiate(url) is None:
        return "apprise does not know this address; see the list at https://github.com/caronc/apprise/wiki"
    return None


def send(notification: AlertNotification) -> str | None:
    """Send it. Returns what went wrong, or None."""
    alert = notification.alert
    recovered = notification.kind == AlertNotification.Kind.RECOVERED
    title = f"Recovered: {alert.title}" if recovered else f"[{alert.severity}] {alert.title}"
    if notification.channel == SENTRY:
        return _to_sentry(alert, title, recovered)
    try:
        urls = addresses(notification.channel)
    except WorkflowsError as error:
        return str(error)
    if not urls:
        return f"there is no channel {notification.channel!r} any more"
    return say(urls, title, alert.message, "success" if recovered else _TYPES[alert.severity])


def say(urls: list[str], title: str, body: str, kind: str) -> str | None:
    """Send a message to addresses. Returns what went wrong, or None."""
    try:
        apprise = extra("apprise", "alerts")
    except MissingExtra as error:
        return str(error)
    target = apprise.Apprise()
    for url in urls:
        if not target.add(url):
            return "apprise does not know the channel's address"
    try:
        sent = target.notify(body=body, title=title, notify_type=apprise.NotifyType(kind))
    except TypeError as error:
        return str(error)
    return None if sent else "apprise could not deliver it (its log line says why)"


def addresses(channel: str) -> list[str]:
    """Where a channel sends to; nothing where it is off or gone."""
    if channel == ENVIRONMENT:
        return list(configuration().alert_urls)
    found = AlertChannel.objects.filter(name=channel, enabled=True).first()
    return [found.url] if found else []


def _to_sentry(alert: Alert, title: str, recovered: bool) -> str | None:
    try:
        sentry_sdk = extra("sentry_sdk", "sentry")
    except MissingExtra as error:
        return str(error)
    client = sentry_sdk.Client(dsn=configuration().sentry_dsn, default_integrations=False)
    try:
        client.capture_event({
            "message": f"{title}\n{alert.message}",
            "level": "info" if recovered else _LEVELS[alert.severity],
            "fingerprint": ["headrace", alert.rule.name if alert.rule else "failure", str(alert.org_id)],
            "tags": {"rule": alert.rule.name if alert.rule else "failure", "execution": str(alert.execution or ""),
                     "step": alert.step},
        })  # fmt: skip
        client.flush(timeout=5)
    finally:
        client.close(timeout=1)
    return None
