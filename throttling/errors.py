"""The errors of flow control."""


class ThrottlingError(Exception):
    """A limit or policy can't be used."""
