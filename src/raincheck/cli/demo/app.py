"""The app of the demo: three functions, and a job that chains them to measure the rain in Bergen."""

from __future__ import annotations

import asyncio
from typing import Any

from raincheck import App, Context, RetryOptions

app = App(title="raincheck demo")


@app.function("/rain/stations", retry=RetryOptions(retry_limit=3, delay=0.6))
async def stations(ctx: Context, city: str) -> list[str]:
    """The weather stations of a city. The first attempt fails, to show a retry."""
    ctx.progress(0.3, message=f"asking for {city}")
    await asyncio.sleep(0.4)
    if ctx.attempt == 1:
        raise ConnectionError("the register does not answer")
    return ["harbour", "hill", "airport"]


@app.function("/rain/measure")
async def measure(ctx: Context, station: str) -> float:
    """The rain of a day at one station, in millimetres."""
    total = 0.0
    for hour in range(24):
        await asyncio.sleep(0.05 + len(station) * 0.004)
        total += (hour + ord(station[0])) % len(station) / 10
        ctx.progress(hour + 1, 24, f"{hour:02}:00")
    return round(total, 1)


@app.function("/rain/report")
def report(ctx: Context) -> dict[str, Any]:
    """The mean of the measurements, and some advice."""
    mean = sum(ctx.previous) / len(ctx.previous)
    return {"millimetres": round(mean, 1), "advice": "take a rain check" if mean > 5 else "go out"}


JOB: dict[str, Any] = {
    "name": "rain in Bergen",
    "functions": [
        {"name": "/rain/stations", "args": ["Bergen"]},
        [
            {"name": "/rain/measure", "args": ["harbour"]},
            {"name": "/rain/measure", "args": ["hill"]},
            {"name": "/rain/measure", "args": ["airport"]},
        ],
        {"name": "/rain/report"},
    ],
}
"""Three stages: the stations, a measurement at each station in parallel, the report."""
