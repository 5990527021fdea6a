"""The app whose schedule test_schedules has fired by processes that are killed."""

from raincheck import App, step

app = App()
app.schedule("tick", [step("tick")], every=1)
