"""What a person does about alerts: switch rules and channels on and off, and try a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q

from dlq.alerting import channels
from dlq.errors import DeadLetterError
from dlq.models import AlertChannel, AlertNotification, AlertRule
from workflows.models import Organization

MOST_NOTIFICATIONS = 20
MOST_LISTED = 200
TEST_TITLE = "Headrace: a test"


class RuleNotFound(DeadLetterError):
    """There is no such alert rule that you may change; `manage.py alerts rules` lists them."""

    status, code = 404, "alert_rule_not_found"


class ChannelNotFound(DeadLetterError):
    """There is no such channel that you may change; the page of alerts lists them."""

    status, code = 404, "alert_channel_not_found"


class NotDelivered(DeadLetterError):
    """The test message was not delivered."""

    status, code = 502, "alert_not_delivered"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What somebody may see and change: what is of the organization; as an operator, what is of all of them too."""

    organization: Organization
    is_operator: bool

    @property
    def rows(self) -> Q:
        ours = Q(org_id=self.organization.id)
        return ours | Q(org_id=None) if self.is_operator else ours


def rules(organization: Organization) -> list[AlertRule]:
    """The rules that look at the organization: its own, and those for each organization; one more than MOST_LISTED
    where there are more."""
    found = AlertRule.objects.filter(Q(org_id=None) | Q(org_id=organization.id))
    return list(found.order_by("name")[: MOST_LISTED + 1])


def channels_of(reach: Reach) -> list[AlertChannel]:
    """The channels within reach, without their addresses; one more than MOST_LISTED where there are more."""
    return list(AlertChannel.objects.filter(reach.rows).defer("ciphertext").order_by("name")[: MOST_LISTED + 1])


def notifications(organization: Organization) -> list[AlertNotification]:
    """The latest messages about the organization's alerts that were not delivered yet, or never were."""
    found = AlertNotification.objects.filter(alert__org_id=organization.id).exclude(status="sent")
    return list(found.select_related("alert").order_by("-id")[:MOST_NOTIFICATIONS])


def switch_rule(reach: Reach, name: str, *, on: bool) -> AlertRule:
    """Look at a rule, or no longer. Raises RuleNotFound."""
    rule = AlertRule.objects.filter(reach.rows, name=name).first()
    if rule is None:
        raise RuleNotFound
    rule.enabled = on
    rule.save(update_fields=["enabled"])
    return rule


def switch_channel(reach: Reach, channel_id: int, *, on: bool) -> AlertChannel:
    """Send to a channel, or no longer. Raises ChannelNotFound."""
    channel = _channel(reach, channel_id)
    channel.enabled = on
    channel.save(update_fields=["enabled"])
    return channel


def try_channel(reach: Reach, channel_id: int, *, by: str) -> AlertChannel:
    """Send a test message to a channel, though it is off. Raises ChannelNotFound and NotDelivered."""
    channel = _channel(reach, channel_id)
    _say([channel.url], by)
    return channel


def try_configured(reach: Reach, *, by: str) -> None:
    """Send a test message to the addresses of HEADRACE_ALERT_URLS. Raises ChannelNotFound and NotDelivered."""
    urls = channels.addresses(channels.ENVIRONMENT) if reach.is_operator else []
    if not urls:
        raise ChannelNotFound
    _say(urls, by)


def _say(urls: Sequence[str], by: str) -> None:
    problem = channels.say(list(urls), TEST_TITLE, f"{by} tries whether alerts arrive here. They do.", "info")
    if problem:
        raise NotDelivered(f"The test message was not delivered: {problem}.")


def _channel(reach: Reach, channel_id: int) -> AlertChannel:
    channel = AlertChannel.objects.filter(reach.rows, id=channel_id).first()
    if channel is None:
        raise ChannelNotFound
    return channel
