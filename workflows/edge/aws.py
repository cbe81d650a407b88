"""Secrets of AWS Secrets Manager: JSON objects of names and texts. (The extra `aws`; region and rights as boto3 has
them.)"""

from __future__ import annotations

import json
from typing import Any

from workflows.edge.extras import extra
from workflows.errors import WorkflowsError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, TRIES = 2, 3, 2
MAX_NAMES = 1_000


class AwsUnavailable(WorkflowsError):
    """AWS Secrets Manager can't be read; check region, credentials and the right secretsmanager:GetSecretValue."""

    status, code = 503, "aws_unavailable"


def client() -> Any:
    """A client with short timeouts, for any thread. Raises MissingExtra, AwsUnavailable."""
    config = extra("botocore.config", "aws").Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries={"total_max_attempts": TRIES}
    )
    errors = extra("botocore.exceptions", "aws")
    try:
        return extra("boto3", "aws").session.Session().client("secretsmanager", config=config)
    except errors.BotoCoreError as error:
        raise _unavailable("", error) from None


def read_secret(name: str, by: Any = None) -> dict[str, str] | None:
    """The names and texts of a secret; None where there is none of this name. `by`: a client.

    Raises MissingExtra, AwsUnavailable (also for what is no JSON object of texts; no message holds a value).
    """
    errors = extra("botocore.exceptions", "aws")
    try:
        found = (by or client()).get_secret_value(SecretId=name).get("SecretString", "")
    except errors.ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            return None
        raise _unavailable(name, error) from None
    except errors.BotoCoreError as error:
        raise _unavailable(name, error) from None
    try:
        values = json.loads(found)
    except ValueError:
        values = None
    if not isinstance(values, dict) or len(values) > MAX_NAMES or not all(isinstance(v, str) for v in values.values()):
        raise AwsUnavailable(f"The AWS secret {name} is no JSON object of at most {MAX_NAMES:,} names with texts.")
    return values


def _unavailable(name: str, error: Exception) -> AwsUnavailable:
    kind = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
    what = f"The secret {name} of AWS Secrets Manager" if name else "AWS Secrets Manager"
    return AwsUnavailable(
        f"{what} can't be read ({kind}): check region, credentials and the right secretsmanager:GetSecretValue."
    )
