"""The path of a new user through the dashboard of a running `make up`: `python -m bench.observe.new_user`.

From the login to a changed flow, a failed run that is understood and repaired, and a limit that is raised, without a
look at the documentation. Prints the clicks and seconds of each part; the trace (`playwright show-trace`) is kept.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect, sync_playwright

from config.env import BASE_DIR

BUG, MENDED = "input['nmae']", "input['name']"
SCRIPT = f"""      script: |
        return {{'text': 'Hello ' + {BUG}}}
    retry: {{attempts: 2, delay: 200ms}}"""


class Walk:
    """A browser that counts clicks, and the parts of a path."""

    def __init__(self, page: Page) -> None:
        self.page, self.parts = page, list[dict[str, Any]]()
        self._clicks, self._began = 0, time.monotonic()

    def click(self, what: Locator) -> None:
        what.click()
        self._clicks += 1

    def link(self, name: str | re.Pattern[str], *, within: str = "body") -> None:
        self.click(self.page.locator(within).get_by_role("link", name=name).first)

    def button(self, name: str | re.Pattern[str]) -> None:
        self.click(self.page.get_by_role("button", name=name).first)

    def done(self, what: str) -> None:
        now = time.monotonic()
        self.parts.append({"part": what, "clicks": self._clicks, "seconds": round(now - self._began, 1)})
        self._clicks, self._began = 0, now


def follow(path: Walk, credentials: dict[str, str]) -> None:
    """Do what a new user does. Raises AssertionError where a page does not lead on."""
    page = path.page
    page.goto(credentials["baseUrl"])
    page.get_by_label("User name").fill(credentials["username"])
    page.get_by_label("Password").fill(credentials["password"])
    path.button("Log in")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    path.done("log in")
    path.link("Flows")
    path.link("New flow")
    field = page.get_by_label("Definition")
    slug = f"mine-{int(time.time())}"
    text = field.input_value().replace("my-flow", slug)
    field.fill(re.sub(r" +expression: .*", lambda _: SCRIPT, text))
    path.button("Check")
    expect(page.get_by_text("It can be published")).to_be_visible()
    path.button("Publish")
    expect(page.get_by_role("heading", name=slug)).to_be_visible()
    path.done("write and publish a flow (with a mistake)")
    _fail_and_repair(path, slug)
    _raise_a_limit(path)


def _fail_and_repair(path: Walk, slug: str) -> None:
    page, field = path.page, path.page.get_by_label("Definition")
    path.link("Start a run")
    path.button(f"Run {slug}")
    expect(page.get_by_role("heading", name=re.compile("failed"))).to_be_visible(timeout=30_000)
    path.done("run it, and see it fail")
    failed = page.url
    path.link("Step greet")
    expect(page.get_by_text("KeyError: nmae").last).to_be_visible()
    path.done("understand why")
    path.link(slug, within="main h1")
    path.link("Edit", within="main")
    field.fill(field.input_value().replace(BUG, MENDED))
    path.button("Check")
    expect(page.get_by_role("heading", name="What changes")).to_be_visible()
    path.button(re.compile("Publish as version 2"))
    expect(page.get_by_text("Version 2 is published")).to_be_visible()
    path.done("mend the flow")
    path.link("Overview", within="main nav")
    path.click(page.locator("main table tbody a").first)
    expect(page).to_have_url(failed)
    path.link("Resume in version 2")
    path.button("Preview")
    path.button("Make this run")
    expect(page.get_by_role("heading", name=re.compile("completed"))).to_be_visible(timeout=30_000)
    path.done("repair the failed run")


def _raise_a_limit(path: Walk) -> None:
    page = path.page
    path.link("Limits")
    path.link("the global rate limit")
    path.link("Change…")
    page.locator("input[name=rate_limit]").fill("1000")
    path.button("Try it on last week")
    expect(page.get_by_role("button", name=re.compile("^Save"))).to_be_visible()
    path.button(re.compile("^Save"))
    expect(page.get_by_text("1000 per").first).to_be_visible()
    path.done("raise the global limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--var", type=Path, default=BASE_DIR / "var", help="the folder of the running instance")
    parser.add_argument("--out", type=Path, default=BASE_DIR / "var" / "new-user")
    options = parser.parse_args()
    credentials = json.loads((options.var / "credentials.json").read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.tracing.start(screenshots=True, snapshots=True)
        path = Walk(context.new_page())
        try:
            follow(path, credentials)
        finally:
            context.tracing.stop(path=options.out / "trace.zip")
            browser.close()
    (options.out / "path.json").write_text(json.dumps(path.parts, indent=1))
    for each in path.parts:
        print(f"{each['clicks']:3d} clicks {each['seconds']:6.1f} s  {each['part']}")
    clicks, seconds = (sum(each[name] for each in path.parts) for name in ("clicks", "seconds"))
    print(f"{clicks:3d} clicks {seconds:6.1f} s  in all; the trace is {options.out / 'trace.zip'}")


if __name__ == "__main__":
    main()
