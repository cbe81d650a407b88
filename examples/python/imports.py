"""Imports of many records: one run with its progress, a run for each batch, throttled by hand, and an event for each
item beside one for all."""

from __future__ import annotations

from collections.abc import Sequence

from examples.python.outside import Outside, Row, chunks
from workflows.functions import Batch, Event, NonRetriable, ReceivedEvent, Step, StepFailed, flow

CHUNK_SIZE = 50
BATCH_SIZE = 100
MAX_ERRORS = 100


# --- one run, with its progress ---------------------------------------------------------------------------------------


@flow("import-with-progress", on=Event("data/import"))
def import_with_progress(event: ReceivedEvent, step: Step) -> Row:
    """Import a file in chunks of 50. A bad record stops nothing; the summary has the first hundred."""
    outside = Outside.of(step)
    records = step.run("parse-file", outside.records, event.data["file"])
    processed, errors = 0, []
    for chunk in chunks(records, CHUNK_SIZE):
        errors += step.run("process-chunk", process_records, outside, event.data["importType"], chunk)
        processed += len(chunk)
        step.progress(100 * processed / len(records), f"{processed} of {len(records)}")
    found = summary(processed, errors)
    step.run("save-summary", outside.upsert, "imports", {"id": str(step.run_id), **found})
    return found


def process_records(outside: Outside, table: str, records: Sequence[Row]) -> list[Row]:
    """Store the records that are good. Returns what is wrong with the others: {id, error}."""
    good = [record for record in records if "@" in record["email"]]
    outside.upsert(table, *good)
    return [{"id": record["id"], "error": "no email"} for record in records if "@" not in record["email"]]


def summary(total: int, errors: Sequence[Row]) -> Row:
    """Of a batch: {total, successful, failed, errors}, with the first hundred errors."""
    failed = len(errors)
    return {"total": total, "successful": total - failed, "failed": failed, "errors": list(errors[:MAX_ERRORS])}


# --- a run for each batch ---------------------------------------------------------------------------------------------


@flow("process-import", on=Event("import/start"))
def process_import(event: ReceivedEvent, step: Step) -> Row:
    """Send an event for each batch of 100 records; each is a run of its own."""
    outside, import_id = Outside.of(step), event.data["importId"]
    records = step.run("parse-file", outside.records, event.data["file"])
    batches = list(chunks(records, BATCH_SIZE))
    for index, batch in enumerate(batches):
        data = {"importId": import_id, "batchIndex": index, "records": batch}
        step.send_event("fan-out-batches", "import/process-batch", data)
    return {"totalRecords": len(records), "batches": len(batches)}


@flow("process-import-batch", on=Event("import/process-batch"), concurrency=5)
def process_import_batch(event: ReceivedEvent, step: Step) -> Row:
    """Process a batch. Five steps of them are performed at a time, over all workers."""
    outside, data = Outside.of(step), event.data
    errors = step.run("process-records", process_records, outside, "contacts", data["records"])
    found = summary(len(data["records"]), errors)
    row = {"id": f"{data['importId']}:{data['batchIndex']}", "importId": data["importId"], **found}
    step.run("update-progress", outside.upsert, "import_progress", row)
    return {"processed": found["total"], **found}


# --- throttled by hand ------------------------------------------------------------------------------------------------


@flow("throttled-bulk-import", on=Event("bulk/import"))
def throttled_bulk_import(event: ReceivedEvent, step: Step) -> Row:
    """One at a time, since the data has to stay consistent, and five a minute (beside
    examples/flows/bulk-import.yaml)."""
    outside = Outside.of(step)
    errors = step.run(
        "bulk-import", process_records, outside, "bulk", event.data["records"],
        throttling={"concurrency": 1, "rateLimit": {"maxExecutions": 5, "perMilliseconds": 60_000}},
    )  # fmt: skip
    return summary(len(event.data["records"]), errors)


# --- an event for each item, or one for all ---------------------------------------------------------------------------


@flow("item-process", on=Event("item/process"))
def item_process(event: ReceivedEvent, step: Step) -> Row:
    """An item by itself: a thousand of them are a thousand events and runs."""
    outside = Outside.of(step)
    step.run("process", outside.upsert, "items", event.data["item"])
    return {"processed": 1}


@flow("items-process-batch", on=Event("items/process-batch"))
def items_process_batch(event: ReceivedEvent, step: Step) -> Row:
    """A thousand items in one event and one run, each of them a step that is tried again by itself."""
    outside = Outside.of(step)
    results = step.map(
        "process", lambda item: store_item(outside, item), event.data["items"], parallelism=10, return_exceptions=True
    )
    errors = [{"error": result.message} for result in results if isinstance(result, StepFailed)]
    return summary(len(results), errors)


@flow("items-gathered", on=Event("item/gathered"), batch=Batch(max_size=100, timeout="500ms"))
def items_gathered(event: ReceivedEvent, step: Step) -> Row:
    """Single events, gathered into one run for up to a hundred of them: whoever sends them need not know."""
    outside = Outside.of(step)
    items = [one["data"]["item"] for one in event.data["events"]]
    step.run("process-all", outside.upsert, "items", *items)
    return {"processed": len(items)}


def store_item(outside: Outside, item: Row) -> str:
    """Store an item. Returns its id. Raises NonRetriable for one that has none."""
    if not item.get("id"):
        raise NonRetriable("the item has no id")
    return str(outside.upsert("items", item)[0]["id"])
