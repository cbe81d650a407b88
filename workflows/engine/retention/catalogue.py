"""What bounds each table that Headrace writes, in words: a test fails where a table is missing here, and the page
docs/howto/retention.md shows it. What has a subject is deleted by a rule; the rest has a bound of its own."""

from __future__ import annotations

from typing import NamedTuple

from workflows.engine.retention.subjects import SUBJECTS, subject_of


class Bound(NamedTuple):
    """What keeps a table (or a kind of keys, or of files) from growing for ever."""

    subject: str
    """Of a rule; empty where it has another bound."""
    words: str

    @property
    def sentence(self) -> str:
        """With the default of its rule."""
        if not self.subject:
            return self.words
        names = self.subject.split()
        days = {"for ever" if (d := subject_of(name).days) is None else f"{d:g} days": None for name in names}
        return f"{self.words} ({', '.join(names)}: {' / '.join(days)})"


_BY_FLOWS = "As many as people publish; goes with its flow"
_BY_HAND = "As many as people make"
_RUNS = "completed failed cancelled"
CATALOGUE: dict[str, Bound] = {
    # history
    "headrace_workflows_run": Bound(_RUNS, "From its end on, while nothing refers to it"),
    "headrace_workflows_steprun": Bound(_RUNS, "With its run"),
    "headrace_workflows_attempt": Bound(_RUNS, "With its run; its log lines for as long as `logs` says"),
    "headrace_workflows_fanout": Bound(_RUNS, "With its run"),
    "headrace_workflows_item": Bound(_RUNS, "With its run"),
    "headrace_workflows_event": Bound("events", "From its receipt on, while there is no run of it"),
    "headrace_workflows_triggeroutcome": Bound("outcomes", "By its age"),
    "headrace_workflows_cronfire": Bound("cron_fires", "By its age; queued ones and the latest of a schedule stay"),
    "headrace_workflows_bulkoperation": Bound("operations", "From its end on, or since nobody has resumed it"),
    "headrace_workflows_operationchange": Bound("operations", "With its operation"),
    "headrace_dlq_deadletter": Bound(_RUNS, "With its run, which an open letter keeps until it is dealt with"),
    "headrace_dlq_deadletterchange": Bound(_RUNS, "With its letter"),
    "headrace_dlq_deadlettergroup": Bound("", "One for each cause of failures: ids and numbers are left out of it"),
    "headrace_dlq_deadlettercomment": Bound("", "As many as people write, about a cause"),
    "headrace_dlq_alert": Bound("alerts", "From its recovery on"),
    "headrace_dlq_alertnotification": Bound("alerts", "With its alert"),
    "headrace_throttling_throttlechange": Bound("limit_history", "By its age; the latest stays"),
    "headrace_workflows_flowversion": Bound("versions", "When another has followed it, and no run has it"),
    "headrace_workflows_step": Bound("versions", "With its version"),
    "headrace_workflows_discoveredstep": Bound("versions", "With its version"),
    # of a moment
    "headrace_workflows_wait": Bound("", "One for each step that waits; gone with the step's outcome"),
    "headrace_workflows_modelwait": Bound("", "One for each step that waits for a row of a table; gone with the step's "
                                          "outcome"),
    "headrace_workflows_celerytask": Bound("", "One for each Celery task that a step waits for; gone with its outcome"),
    "headrace_workflows_runstart": Bound("", "31 days, the longest period of a rate limit of runs"),
    "headrace_workflows_idempotencykey": Bound("", "The window of the key: 24 hours, or what a flow says, 366 days at "
                                               "most. It outlives its run"),
    "headrace_workflows_sweepfailure": Bound("", "15 minutes after the last try"),
    "headrace_workflows_worker": Bound("", "10 minutes after its last sign of life"),
    "headrace_workflows_leaderlease": Bound("", "One row"),
    "headrace_workflows_systemfeed": Bound("", "A row for each organization and kind of system events"),
    "headrace_workflows_observedtask": Bound("", "HEADRACE_OBSERVE_DAYS (7) and HEADRACE_OBSERVE_MOST rows"),
    "headrace_workflows_observationloss": Bound("", "With observed tasks: a row for each of those days"),
    "headrace_workflows_logintry": Bound("", "5 minutes from the next try on; an hour at the latest"),
    "headrace_workflows_retentionstate": Bound("", "One row"),
    "headrace_workflows_prunedrun": Bound("", "Until what belonged to the deleted run is deleted: moments"),
    "headrace_workflows_prunedcount": Bound("", "A row a minute, organization and status, for 8 days"),
    "headrace_workflows_minutecounts": Bound("", "A row a minute and organization in which something happened, for 8 "
                                             "days; the leader deletes the older ones"),
    "headrace_workflows_measuredhour": Bound("", "A row an hour, as far back as there are rows, five years at most"),
    "headrace_workflows_storedbytes": Bound("", "A row an hour and organization, while there are rows of that hour"),
    "headrace_workflows_importedrun": Bound("", "Until the imported run is deleted, or its time is over"),
    "django_session": Bound("sessions", "From its expiry on"),
    "headrace_workflows_auditentry": Bound("audit", "By its age; nothing else deletes or changes an entry"),
    "django_admin_log": Bound("audit", "By its age"),
    "django_celery_results_taskresult": Bound("task_results", "From its end on, while no step waits for its task; "
                                              "one that says of no end stays"),
    "django_celery_results_groupresult": Bound("task_results", "From its end on"),
    "django_celery_results_chordcounter": Bound("", "While its chord is open; steps use no chords"),
    # what people make
    "headrace_workflows_organization": Bound("", _BY_HAND),
    "headrace_workflows_membership": Bound("", f"{_BY_HAND}, one for each login or team; goes with it"),
    "headrace_workflows_savedview": Bound("", "50 for each login in an organization; goes with either"),
    "headrace_workflows_example": Bound("", "The last 10 for each login and flow, and for events; goes with the login"),
    "headrace_workflows_accesskey": Bound("", _BY_HAND),
    "headrace_workflows_secret": Bound("", _BY_HAND),
    "headrace_workflows_oauthcredential": Bound("", "One for each credential that flows name. Never deleted: a renewed "
                                                "refresh token can't be had again"),
    "headrace_workflows_flow": Bound("", _BY_HAND),
    "headrace_workflows_trigger": Bound("", f"{_BY_FLOWS}, or 30 days after its definition went without it"),
    "headrace_workflows_cancelrule": Bound("", _BY_FLOWS),
    "headrace_workflows_eventschema": Bound("", _BY_HAND),
    "headrace_workflows_retentionrule": Bound("", _BY_HAND),
    "headrace_throttling_throttleoverride": Bound("", _BY_HAND),
    "headrace_throttling_defaultsize": Bound("", "One row"),
    "headrace_dlq_alertrule": Bound("", _BY_HAND),
    "headrace_dlq_alertchannel": Bound("", _BY_HAND),
}  # fmt: skip
BESIDES: dict[str, Bound] = {
    "store: limits and their waiting steps": Bound("", "Each key has an expiry, or holds ids of steps that Postgres "
                                                   "has; the leader's audit takes out the rest"),
    "store: epochs": Bound("", "The leader sweeps what belongs to earlier epochs"),
    "broker: queues": Bound("", "Twice the workers' slots for each queue; other steps are parked in Postgres"),
    "files: logs of `up`": Bound("", "20 MB and two files before it (supervisor rotates). In production Headrace "
                                 "writes to standard output, and no file"),
    "files: exports": Bound("", "Where `prune --export` puts them; nobody deletes them but you"),
}  # fmt: skip
"""What grows elsewhere than in a table."""


def sentences() -> dict[str, str]:
    """By table, or other place: what bounds it."""
    return {name: bound.sentence for name, bound in (CATALOGUE | BESIDES).items()}


def unknown_subjects() -> set[str]:
    """Subjects of the catalogue that there are not; none, unless somebody made a mistake here."""
    return {name for bound in CATALOGUE.values() for name in bound.subject.split()} - SUBJECTS.keys()
