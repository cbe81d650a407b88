"""Every page under its content policy: Chromium reports what a page tries and may not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import browser, log_in, page, tenant  # noqa: F401  (fixtures)
from tests.support.workers import WorkerPool, await_end, publish
from workflows import services
from workflows.models import Organization

WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => {
    console.error("refused " + event.violatedDirective);
    window.refused.push(event.violatedDirective);
});
"""


@pytest.fixture
def watched(page: Page, tenant: Organization) -> Page:  # noqa: F811
    """Logged in; the page's own fixture fails on every error in the console, and each violation is one."""
    page.add_init_script(WATCH)
    page.on("request", lambda request: _only_here(request.url))
    log_in(page)
    return page


def _only_here(url: str) -> None:
    assert re.match(r"(http://localhost[:/]|http://127\.0\.0\.1[:/]|data:|blob:)", url), url


def test_a_violation_is_seen(browser: Any, address: str) -> None:  # noqa: F811
    """The other tests could not fail otherwise."""
    context = browser.new_context(base_url=address)
    opened = context.new_page()
    found: list[str] = []
    opened.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    opened.add_init_script(WATCH)
    opened.goto("/login/")
    assert found == []
    opened.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>x</p>");
    }""")
    opened.wait_for_function("() => window.refused.length == 2")
    assert {"refused script-src-elem", "refused style-src-attr"} <= set(found)
    assert opened.evaluate("() => window.ran") is None
    context.close()


@pytest.mark.parametrize("path", ["/", "/flows/", "/approvals/", "/test/", "/test/events/", "/operations/", "/design/"])
def test_the_dashboard_keeps_its_policy(watched: Page, path: str) -> None:
    watched.goto(path)
    expect(watched.locator("main h1")).to_be_visible()


def test_a_run_with_its_waterfall_keeps_its_policy(watched: Page, tenant: Organization, workers: WorkerPool) -> None:  # noqa: F811
    slug = publish(tenant, [{"id": "a", "type": "noop"}, {"id": "b", "type": "delay", "config": {"for": "1500ms"}}])
    run_id = services.trigger(tenant, slug).run_ids[0]
    watched.goto(f"/runs/{run_id}/")
    expect(watched.get_by_role("heading", name="completed")).to_be_visible(timeout=15_000)  # swapped in while it runs
    await_end(tenant, run_id)
    bar = watched.locator(".track .bar").last
    box = bar.bounding_box()
    assert box is not None
    assert box["width"] > 0
    left = float(bar.evaluate("(bar) => bar.style.left.slice(0, -1)"))
    track = watched.locator(".track").last.bounding_box()
    assert track is not None
    assert box["x"] - track["x"] == pytest.approx(left / 100 * track["width"], abs=3)


def test_the_documentation_of_the_api_keeps_its_policy_and_fetches_nothing_from_outside(watched: Page) -> None:
    watched.goto("/api/docs")
    expect(watched.locator(".opblock").first).to_be_visible(timeout=20_000)
    watched.locator(".opblock-summary-control").first.click()
    expect(watched.locator(".opblock.is-open").first).to_be_visible()


ADMIN = [
    "", "headrace_workflows/flow/", "headrace_workflows/flow/add/", "headrace_workflows/run/", "headrace_workflows/organization/add/", "headrace_workflows/secret/add/",
    "headrace_throttling/throttleoverride/add/", "headrace_throttling/throttlechange/", "headrace_dlq/deadletter/", "headrace_dlq/alertrule/",
    "django_celery_beat/periodictask/", "django_celery_beat/periodictask/add/", "auth/user/add/", "password_change/",
]  # fmt: skip


@pytest.mark.parametrize("path", ADMIN)
def test_the_admin_keeps_its_policy(watched: Page, path: str) -> None:
    watched.goto(f"/admin/{path}")
    expect(watched.locator("#content")).to_be_visible()


def test_a_periodic_task_says_its_crontab_in_words(watched: Page) -> None:
    crontab = CrontabSchedule.objects.create(minute="7", hour="3")
    task = PeriodicTask.objects.create(name=f"t{crontab.pk}", task="x", crontab=crontab, enabled=False)
    watched.goto(f"/admin/django_celery_beat/periodictask/{task.pk}/change/")
    watched.locator("#id_crontab").select_option("")
    watched.locator("#id_crontab").select_option(str(crontab.pk))
    expect(watched.locator(".field-crontab .help")).to_contain_text("03:07")


def test_the_login_pages_keep_their_policy(page: Page, tenant: Organization) -> None:  # noqa: F811
    page.add_init_script(WATCH)
    for path in ("/login/", "/admin/login/"):
        page.goto(path)
        expect(page.locator("form input[name=password]")).to_be_visible()
