"""An app to start from: raincheck serve app.py"""

import asyncio

from raincheck import App, Context, RetryOptions

app = App()  # jobs are kept in RAINCHECK_STORE, else in the file raincheck.db


@app.function
def add(*numbers: int) -> int:
    """Return the sum of the numbers: raincheck call add 1 2"""
    return sum(numbers)


@app.function("report/build", retry=RetryOptions(retry_limit=3, delay=1), timeout=60)
async def build(ctx: Context, city: str) -> dict[str, str]:
    """Build a report, which takes some time: raincheck call report/build Paris"""
    for step in range(3):
        ctx.progress(step, 3, f"step {step + 1} of 3")
        await asyncio.sleep(1)
    return {"report": f"{city}: sunny"}
