"""Steps that build on each other, sleeps, other flows, and people: what a run is made of."""

from __future__ import annotations

import asyncio

from examples.python.outside import Outside, Row
from workflows.functions import Event, ReceivedEvent, Step, flow


@flow("hello-world", name="Hello World Function", on=Event("test/hello.world"), retries=3)
def hello_world(event: ReceivedEvent, step: Step) -> Row:
    """Three sleeps of three seconds, which hold no worker, then a row."""
    outside = Outside.of(step)
    step.sleep("fetching", "3s")
    step.sleep("transcribing", "3s")
    step.sleep("sending-to-ai", "3s")
    row = {"id": str(step.run_id), "name": "workflow-from-headrace"}
    step.run("create-workflow", outside.upsert, "workflows", row)
    return row


@flow("create-workflow", on=Event("workflow/requested"))
def create_workflow(event: ReceivedEvent, step: Step) -> Row:
    """A row, two that belong to it, and one that links those: each step has what the ones before have returned. The ids
    come from the run, so a step that is performed again writes the same rows."""
    outside = Outside.of(step)
    ids = [str(step.uuid()) for _ in range(4)]
    workflow = step.run("create-workflow", outside.upsert, "workflows", {"id": ids[0], "name": event.data["name"]})[0]
    nodes = step.run(
        "create-nodes", outside.upsert, "nodes",
        {"id": ids[1], "workflowId": workflow["id"], "type": "trigger"},
        {"id": ids[2], "workflowId": workflow["id"], "type": "action"},
    )  # fmt: skip
    link = {"id": ids[3], "workflowId": workflow["id"], "sourceId": nodes[0]["id"], "targetId": nodes[1]["id"]}
    step.run("link-nodes", outside.upsert, "edges", link)
    step.send_event("trigger-next-workflow", "workflow/next-step", {"workflowId": workflow["id"]})
    return {"workflowId": workflow["id"], "edge": link}


@flow("next-workflow", on=Event("workflow/next-step", match="data.workflowId"))
def next_workflow(event: ReceivedEvent, step: Step) -> Row:
    """What comes after create-workflow: until somebody approves, for a day at most. Nobody does: `approvedBy` is
    None."""
    outside, workflow_id = Outside.of(step), event.data["workflowId"]
    approved = step.wait_for_event("wait-for-approval", "workflow/approved", match="data.workflowId", timeout="24h")
    state = "expired" if approved is None else "approved"
    step.run("set-state", outside.update, "workflows", workflow_id, state=state)
    return {"workflowId": workflow_id, "state": state, "approvedBy": approved and approved.data.get("by")}


@flow("long-running-job", on=Event("job/long-running"), timeout="10m")
async def long_running_job(event: ReceivedEvent, step: Step) -> Row:
    """The run may take ten minutes, each try of the step thirty seconds. Async: it costs a worker no thread."""
    seconds = float(event.data.get("seconds", 0.1))
    answer: Row = await step.run("external-api", slow_api, seconds, timeout="30s", retries=1)
    return answer


async def slow_api(seconds: float) -> Row:
    """An answer after so many seconds."""
    await asyncio.sleep(seconds)
    return {"answeredAfter": seconds}
