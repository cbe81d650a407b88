"""The tasks that the code of an async flow creates end with the visit; those of a step's function do not."""

from __future__ import annotations

import asyncio

import pytest

from workflows.functions.driving import tasks


async def lives(what: str, said: list[str], seconds: float, *, obeys: bool = True) -> None:
    """Sleeps, and says how that ended."""
    try:
        await asyncio.sleep(seconds)
        said.append(what)
    except asyncio.CancelledError:
        said.append(f"{what} is cancelled")
        if not obeys:
            await asyncio.sleep(seconds)
        raise


@pytest.mark.parametrize("obeys", [True, False])
def test_the_tasks_of_the_code_end_with_the_visit(monkeypatch: pytest.MonkeyPatch, obeys: bool) -> None:
    monkeypatch.setattr(tasks, "END_WITHIN_S", 0.05)
    said: list[str] = []
    of_step: list[asyncio.Task[None]] = []

    async def code() -> None:
        task = asyncio.create_task(lives("its task", said, 1.0, obeys=obeys))
        task.set_name("of the code")
        with tasks.of_no_code():
            of_step.append(asyncio.create_task(lives("that of a step", said, 0.2)))
        await asyncio.sleep(0)

    async def visit() -> None:
        known = tasks.CodeTasks()
        known.watch()
        await asyncio.create_task(code())
        assert known.has_new()
        assert not known.has_new()
        await known.cancel()
        said.append("the visit has ended")

    async def worker() -> None:
        await asyncio.create_task(visit())
        await of_step[0]

    asyncio.run(worker())
    assert said == ["its task is cancelled", "the visit has ended", "that of a step"]


def test_where_another_library_makes_the_tasks_there_may_always_be_new_ones() -> None:
    async def visit() -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, code, **given: asyncio.Task(code, loop=loop, **given))
        known = tasks.CodeTasks()
        known.watch()
        assert known.has_new()
        assert known.has_new()

    asyncio.run(visit())
