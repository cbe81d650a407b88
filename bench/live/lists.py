"""Lists of runs that are open in browsers, as `live.js` and `runs.js` fetch them in busy organizations."""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
import time
from collections.abc import Sequence

from django.contrib.auth.models import User
from django.test import Client

from workflows.dashboard.runs.live import FETCHES_PER_S
from workflows.models import Membership, Organization

FIRST_S = 5.0
"""Within so long all of them ask for the first time."""
COUNTED_EACH_S = 60.0
"""Three pauses of 200 lists (`runs.js`)."""
NEWEST = re.compile(r'<tr id=\\?"run-([0-9a-f-]{36})')


class OpenLists:
    """So many open lists over some organizations, each with a login, fetched by one thread until `close`."""

    def __init__(self, port: int, organizations: Sequence[Organization], count: int) -> None:
        self._port = port
        self._cookies = [_log_in(organizations[number % len(organizations)]) for number in range(count)]
        self._count = count
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._fetch)
        self.fetched = self.bytes = 0
        self.error: Exception | None = None

    @property
    def settle_s(self) -> float:
        """After so long all of them wait as long as they are told."""
        return 2 * FIRST_S + self._count / FETCHES_PER_S

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Raises what a fetch raised."""
        self._is_over.set()
        self._thread.join()
        User.objects.filter(username__startswith="bench-lists-").delete()
        if self.error is not None:
            raise self.error

    def _fetch(self) -> None:
        try:
            server = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            newest = [self._newest(self._get(server, "/", cookie)) for cookie in self._cookies[:2]]
            now = time.monotonic()
            due = [
                [now + random.uniform(0, FIRST_S), now + random.uniform(0, COUNTED_EACH_S), number]
                for number in range(self._count)
            ]
            shown = [newest[number % 2] for number in range(self._count)]
            while not self._is_over.is_set():
                page = min(due)
                if self._is_over.wait(max(0.0, page[0] - time.monotonic())):
                    return
                number = int(page[2])
                cookie = self._cookies[number]
                answer = self._get(server, f"/runs/rows/?shown={shown[number]}:ended", cookie)
                shown[number] = self._newest(answer) or shown[number]
                page[0] = time.monotonic() + json.loads(answer)["pauseMs"] / 1000
                if time.monotonic() > page[1]:
                    self._get(server, "/runs/counts/", cookie)
                    page[1] += COUNTED_EACH_S
        except Exception as error:
            self.error = error

    def _get(self, server: http.client.HTTPConnection, path: str, cookie: str) -> str:
        server.request("GET", path, headers={"Cookie": cookie})
        answer = server.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        self.fetched += 1
        self.bytes += len(text)
        return text.decode()

    @staticmethod
    def _newest(page: str) -> str:
        found = NEWEST.search(page)
        return found[1] if found else ""


def _log_in(organization: Organization) -> str:
    """The cookie of a new member of an organization."""
    user = User.objects.create_user(f"bench-lists-{organization.slug}-{time.time_ns()}")
    Membership.objects.create(organization=organization, user=user, role="editor")
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"
