"""The code in the documents is that of the files that are run, and every example has its place there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import examples.python  # noqa: F401  (with it its flows are known)
from config.env import BASE_DIR
from devtools import excerpts
from workflows.functions import flows

PAGE = BASE_DIR / "docs" / "explanation" / "from_other_systems.md"
OF_EXAMPLES = [flow for flow in flows.known() if flow.address.startswith("examples.")]
NAMED = frozenset(
    """
    bulk-import my-function every-five-minutes send-email-campaign report-generate import-with-progress stripe-webhook
    cleanup-expired-sessions sync-github-metrics generate-sitemap cleanup-expired-tokens sync-external-data
    on-user-signup daily-cleanup process-import process-import-batch send-profile-reminder resilient-job
    custom-retry-job critical-job monitored-job logging-example error-handling-example graceful-example
    reporting-example time-sensitive rate-limited-api token-bucket items-process-batch item-process expensive-job
    optimized-job my-job hello-world create-workflow long-running-job rate-limited-job risky-operation
    create-or-update-user batch-rate-limited idempotent-payment monitor-dlq
""".split()  # noqa: SIM905
)
"""The jobs that the documents name."""


@pytest.mark.parametrize("page", excerpts.pages(), ids=lambda page: page.name)
def test_the_code_of_a_page_is_up_to_date(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == excerpts.filled_in(text), "run `manage.py excerpts`"


def test_every_example_stands_on_the_page() -> None:
    assert PAGE in excerpts.pages()
    text = PAGE.read_text("utf-8")
    assert len(OF_EXAMPLES) > 50
    assert [flow.slug for flow in OF_EXAMPLES if not re.search(rf'@flow\(\s*"{flow.slug}"', text)] == []


def test_every_job_of_the_documents_is_there() -> None:
    declared = {path.stem for path in (BASE_DIR / "examples" / "flows").glob("*.yaml")}
    assert NAMED - {flow.slug for flow in OF_EXAMPLES} - declared == set()


@pytest.mark.parametrize("flow", OF_EXAMPLES, ids=lambda flow: flow.slug)
def test_every_example_says_what_it_shows_and_can_be_published(flow: flows.FunctionFlow) -> None:
    assert flow.spec().description, "its docstring is its description"


def test_a_page_that_asks_for_what_is_not_there_is_refused() -> None:
    def block(where: str) -> str:
        return f"<!-- from {where} -->\n```python\n```"

    with pytest.raises(excerpts.NoExcerpt, match="no file examples/none.py"):
        excerpts.filled_in(block("examples/none.py: x"))
    with pytest.raises(excerpts.NoExcerpt, match="has no nothing"):
        excerpts.filled_in(block("examples/python/limits.py: get, nothing"))
    assert "return bool(" in excerpts.filled_in(block("examples/python/limits.py: get"))
    assert '"""' not in excerpts.filled_in(block("examples/python/limits.py: get, token_bucket"))
