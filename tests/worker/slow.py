"""A worker with a short grace, whose functions do not end; it writes how many it has begun."""

import asyncio
import signal
import sys
import threading

from raincheck import App, Worker


async def main(url: str, steps: int) -> None:
    app = App(url)
    stop, begun, lock = asyncio.Event(), 0, threading.Lock()

    def begin() -> None:
        nonlocal begun
        with lock:
            begun += 1
            if begun == steps:
                sys.stdout.write(f"{begun}\n")
                sys.stdout.flush()

    @app.function("async")
    async def on_the_loop() -> None:
        begin()
        await asyncio.Event().wait()

    @app.function("thread")
    def in_a_thread() -> None:
        begin()
        threading.Event().wait()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app:
        await Worker(app, concurrency=steps, grace=0.5).run(stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
