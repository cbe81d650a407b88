"""A job of the leader: revokes Celery tasks whose steps ended while nobody watched, and deletes what is over."""

from __future__ import annotations

import json

from workflows.engine.celery_tasks import ends
from workflows.engine.celery_tasks.watcher import revoke
from workflows.engine.sql import celery_tasks as sql
from workflows.errors import Category

BATCH = 500


def tidy() -> bool:
    """Do so for a batch. True where there may be more."""
    abandoned = [row.task_id for row in sql.abandoned_tasks(batch=BATCH)]
    if abandoned:
        revoke(abandoned, terminate=True)
        end = ends.failure("TaskRevoked", "Headrace has revoked the task.", Category.BUSINESS)
        sql.end_tasks(ends=json.dumps([{"task_id": id_, "end": end, "by": "revoked"} for id_ in abandoned]))
    return BATCH in {len(abandoned), len(sql.forget_tasks(batch=BATCH))}
