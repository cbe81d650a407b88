"""A call to the throttle store that is on its way, while its caller does something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from redis.connection import ConnectionPool

T = TypeVar("T")


class Sent(Generic[T]):
    """A command that was sent on a connection of its own. Ask for its answer once, or `abandon` it.

    The store executes it in any case.
    """

    def __init__(
        self, pool: ConnectionPool, command: tuple[Any, ...], understand: Callable[[Callable[[], Any]], T]
    ) -> None:
        """Send the command. Raises an error of redis-py where the store can't be reached.

        `understand` is given what waits for the reply; it makes the answer, and decides what errors mean.
        """
        self._pool, self._understand = pool, understand
        self._connection: Any = pool.get_connection()
        try:
            self._connection.send_command(*command)  # type: ignore[no-untyped-call]
        except BaseException:
            self.abandon()
            raise

    def answer(self) -> T:
        """Wait for the answer. Raises what the gate's methods raise."""
        return self._understand(self._reply)

    def abandon(self) -> None:
        """Wait for nothing. The connection is closed: its next user would get this reply."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def _reply(self) -> Any:
        connection, self._connection = self._connection, None
        try:
            return connection.read_response()  # where this raises, it has disconnected, unless the reply is an error
        finally:
            self._pool.release(connection)
