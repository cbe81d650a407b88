"""The services that the examples call: their real server, in a thread of the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from examples import server
from examples.python import outside as client
from examples.python.outside import SECRET, Outside
from workflows.models import Organization, Secret


@pytest.fixture(scope="session")
def services_address() -> Iterator[str]:
    made = server.serve()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    client._client().close()
    client._client.cache_clear()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def outside(org: Organization, services_address: str) -> Outside:
    """The services as the flows of this organization reach them; they know nothing yet."""
    server.WORLD.__init__()  # type: ignore[misc]
    store_secret(org, SECRET, services_address)
    return Outside(services_address)


def store_secret(org: Organization, name: str, value: str) -> None:
    row = Secret(organization=org, name=name)
    row.value = value
    row.save()
