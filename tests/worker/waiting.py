"""A worker whose only function writes a line, then returns once it has read one."""

import asyncio
import sys

from raincheck import App, Worker


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, lease: float) -> None:
    app = App(url)
    over = asyncio.Event()

    @app.function
    async def wait() -> str:
        say("begun")
        try:
            await asyncio.to_thread(sys.stdin.readline)
            return "first"
        finally:
            over.set()

    async with app:
        async with Worker(app, lease=lease):
            await over.wait()
        say("stopped")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
