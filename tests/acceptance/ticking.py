"""The app of test_schedules, with one schedule, whose function no worker has."""

from raincheck import App, step

app = App()
app.schedule("tick", [step("tick")], every=1)


@app.function
def other() -> None:
    """A worker needs a function."""
