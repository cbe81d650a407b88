"""The tables. Definitions (organization, flow) use foreign keys; history (event, run) has none into it (ADR 0003)."""

from workflows.models.credential import OAuthCredential
from workflows.models.event import Event, EventSchema, SystemFeed
from workflows.models.fan_out import FanOut, Item
from workflows.models.flow import CancelRule, CronFire, DiscoveredStep, Flow, FlowVersion, Step, Trigger
from workflows.models.observed import CeleryTask, ObservationLoss, ObservedTask
from workflows.models.operation import BulkOperation, OperationChange
from workflows.models.organization import AccessKey, Organization, Secret
from workflows.models.outcome import RunStart, TriggerOutcome
from workflows.models.people.audit import AuditEntry
from workflows.models.people.dashboard import Example, SavedView
from workflows.models.people.login import LoginTry
from workflows.models.people.membership import Membership
from workflows.models.retention import ImportedRun, PrunedCount, PrunedRun, RetentionRule, RetentionState
from workflows.models.run import Attempt, IdempotencyKey, Run, StepRun
from workflows.models.stored import MeasuredHour, StoredBytes
from workflows.models.wait import ModelWait, Wait
from workflows.models.worker import LeaderLease, MinuteCounts, SweepFailure, Worker

__all__ = [
    "AccessKey",
    "Attempt",
    "AuditEntry",
    "BulkOperation",
    "CancelRule",
    "CeleryTask",
    "CronFire",
    "DiscoveredStep",
    "Event",
    "EventSchema",
    "Example",
    "FanOut",
    "Flow",
    "FlowVersion",
    "IdempotencyKey",
    "ImportedRun",
    "Item",
    "LeaderLease",
    "LoginTry",
    "MeasuredHour",
    "Membership",
    "MinuteCounts",
    "ModelWait",
    "OAuthCredential",
    "ObservationLoss",
    "ObservedTask",
    "OperationChange",
    "Organization",
    "PrunedCount",
    "PrunedRun",
    "RetentionRule",
    "RetentionState",
    "Run",
    "RunStart",
    "SavedView",
    "Secret",
    "Step",
    "StepRun",
    "StoredBytes",
    "SweepFailure",
    "SystemFeed",
    "Trigger",
    "TriggerOutcome",
    "Wait",
    "Worker",
]
