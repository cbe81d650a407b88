"""The organization that the walks of the admin look at."""

from tests.integration.admin.world import world  # noqa: F401  (a fixture)
