"""A worker whose child process hangs: it writes the child's id, to be killed then."""

import asyncio
import sys

from raincheck import App, Worker
from tests.worker import functions
from tests.worker.helpers import begun, entry


async def main(url: str) -> None:
    app = App(url)
    hang = app.function(process=True)(functions.hang)
    async with app, Worker(app):
        job = await begun(app, (await app.submit("hang", [hang.step()])).id)
        sys.stdout.write(f"{entry(job).progress['done']:.0f}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
