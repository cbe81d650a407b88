"""Existing Celery tasks as steps: sent once, watched until they end, whichever process watches.

A step's task is sent with a callback for its end. Celery calls it in the worker that executes the task, also where
nothing of Headrace is installed: it puts a message into the queue of ends. Every process that watches consumes that
queue, and stores each end in the row of its task before it acknowledges. The result backend of the application is
looked at beside, for what the message can't tell (docs/adr/0025-celery-tasks.md).
"""
