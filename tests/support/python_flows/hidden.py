"""A flow in Python that handles a payload in every way it can: for the encryption of payloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.python_flows.basic import tell, told
from workflows.functions import Event, ReceivedEvent, Step, StepFailed, flow


@flow("code-hidden", on=Event("code/hidden"), retry={"retries": 1, "delay": "50ms", "backoff": "fixed"})
def hidden(event: ReceivedEvent, step: Step) -> Any:
    """Logs it, sleeps over it, waits by its value, fails with it, sends it on."""
    word, where = event.data["word"], event.data["dir"]
    step.logger.info(f"began with {word}", word=word)
    step.sleep("a-while", "50ms")

    def work() -> dict[str, str]:
        step.logger.info(f"works with {word}")
        tell(where, "work")
        if told(Path(where), "work") == 1:
            raise RuntimeError(f"not with {word}")
        return {"word": word}

    done = step.run("work", work)
    step.progress(50, f"half of {word}")
    step.send_event("tell", "code/hidden-told", {"word": word})
    found = step.wait_for_event("answer", "code/hidden-answer", if_=f"async.data.word == '{word}'", timeout="20s")
    try:
        step.run("fails", fail, word)
    except StepFailed as error:
        failed = error.message
    step.atomic("write", lambda: {"word": word})
    return {"done": done["word"], "found": found and found.data["word"], "failed": failed}


def fail(word: str) -> None:
    raise ValueError(f"no such word: {word}")
