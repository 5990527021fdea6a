"""Maintenance: due times, deadlines and retention, without a worker."""

import asyncio
from datetime import UTC, datetime, timedelta

from raincheck import App, Gone, NotFound, Worker, step
from raincheck.core.errors import StoreError
from raincheck.engine.maintenance import Done, Maintenance
from tests.worker.helpers import logged


async def test_a_due_date_is_noted(app: App) -> None:
    """A scheduled job is pending once it is due, also without a worker."""
    async with app:
        job = await app.submit("x", [step("x")], delay=0.05)
        while (await app.status(job.id)).state == "scheduled":
            await Maintenance(app.engine).do_due()
        assert (await app.status(job.id)).state == "pending"


async def test_a_deadline_ends_a_job(app: App) -> None:
    """A job that no worker runs has failed once its deadline has passed."""
    async with app, Maintenance(app.engine):
        soon = datetime.now(UTC) + timedelta(seconds=0.1)
        job = await app.submit("x", [step("x")], expires_at=soon)
        ended = await app.wait(job.id, timeout=30)
    assert ended.error is not None
    assert ended.error.name == "deadline-passed"


async def test_what_was_kept_long_enough_is_removed(app: App) -> None:
    """An ended job is gone after its retention time; an unknown id is not found."""

    @app.function
    async def quick() -> int:
        return 1

    async with app:
        async with Worker(app):
            job = await app.submit("quick", [quick.step()], result_ttl=0.0)
            while True:
                try:
                    await app.wait(job.id)
                except Gone:
                    break
                await Maintenance(app.engine).do_due()
        try:
            await app.status("01990000-0000-7000-8000-000000000000")
        except Gone:
            raise AssertionError from None
        except NotFound:
            pass


async def test_unfinished_work_is_kept_however_old(app: App) -> None:
    """Retention never touches a job that has not ended."""
    async with app:
        job = await app.submit("x", [step("x")], result_ttl=0.0)
        assert (await Maintenance(app.engine).do_due()).pruned == 0
        assert (await app.status(job.id)).state == "pending"


async def test_maintenance_outlives_its_failures(app: App) -> None:
    """A duty that fails is tried again, and the failure is in the log."""
    async with app:
        maintenance = Maintenance(app.engine)
        failures = 0
        over = asyncio.Event()

        async def duty() -> Done:
            nonlocal failures
            failures += 1
            if failures == 1:
                raise StoreError("away")
            if failures == 2:
                raise ValueError("a bug")
            over.set()
            return Done()

        with logged("maintenance failed, retrying", "raincheck.maintenance") as line:
            task = asyncio.create_task(maintenance._repeat(duty, 0.0))
            await over.wait()
            task.cancel()
        assert line.is_set()
