"""The app of test_schedules, with one schedule."""

from raincheck import App, step

app = App()
app.schedule("tick", [step("tick")], every=1)
