"""Observe-only mode (`HEADRACE_OBSERVE=1`): what the application's own Celery tasks do, without a change to them.

Signals of Celery tell of tasks in the processes that send and execute them. A signal adds to a bounded buffer, and a
thread of the process writes that to Postgres, over a connection of its own. It stands outside of all promises: what
can't be written is dropped and counted, and nothing here is ever raised into the application.
"""
