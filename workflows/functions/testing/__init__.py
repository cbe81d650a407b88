"""The test kit: flows in Python within a test, in one process, on a clock of its own.

pytest finds the fixture `flow_kit` by itself; elsewhere, `FlowKit()` makes one.
"""

from workflows.functions.testing.kit import FlowKit, FlowRun
from workflows.functions.testing.rows import Entry, SentEvent, StepCall
from workflows.functions.testing.stubs import FlowTestError, NotStubbed

__all__ = ["Entry", "FlowKit", "FlowRun", "FlowTestError", "NotStubbed", "SentEvent", "StepCall"]
