"""The errors of flow control."""


class ThrottlingError(Exception):
    """A limit or policy can't be used."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class StoreUnavailable(ThrottlingError):
    """The throttle store does not answer: nothing is admitted until it does."""


class EpochClosed(ThrottlingError):
    """The throttle store was emptied or restarted: nothing is admitted until its state is rebuilt from Postgres."""


class EnvironmentValueError(ThrottlingError, ValueError):
    """An environment variable has a value that can't be used."""
