"""Uses the Python client that openapi-python-client generated: client.py URL. The client is on the path."""

import sys

from generated import AuthenticatedClient, Client
from generated.api.functions import call_refuse, call_warn, call_weather
from generated.api.groups import trigger_group
from generated.api.jobs import create_job, get_job, list_jobs
from generated.models import (
    FunctionRequest,
    Job,
    JobRequest,
    JobRequestData,
    Problem,
    State,
    WarnAlert,
    WarnRain,
    WeatherCity,
)

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)

body = JobRequest(name="sum", functions=[FunctionRequest("add", [1, 2]), FunctionRequest("add", [4])])
job = create_job.sync(client=client, body=body)
assert isinstance(job, Job), job
while job.state not in (State.DONE, State.FAILED):
    job = get_job.sync(job.id, client=client, prefer="wait=10")
    assert isinstance(job, Job), job
assert (job.state, job.result, job.error) == (State.DONE, 4, None), job

weather = call_weather.sync(client=client, body=[WeatherCity("Paris"), 2])
assert weather.result.to_dict() == {f"Paris {i}": {"rain": 0.5, "sky": "grey"} for i in (0, 1)}, weather

warned = call_warn.sync(client=client, body=[WarnAlert(WarnRain(kind="rain", litres="2.5"))])
assert not isinstance(warned, Problem), warned
assert warned.result[0].cause.litres == "2.5", warned

failed = call_refuse.sync(client=client, body=["no luck"])
assert isinstance(failed, Problem), failed
assert (failed.type_, failed.detail) == ("urn:raincheck:problem:function-failed", "no luck"), failed

wrong = create_job.sync(client=client, body=JobRequest(name="", functions=[]))
assert isinstance(wrong, Problem), wrong
assert wrong.type_ == "urn:raincheck:problem:validation", wrong
assert [error.pointer for error in wrong.errors] == ["/functions", "/name"], wrong

run = trigger_group.sync("sums", client=client, prefer="wait=10")
assert (run.state, run.result) == (State.DONE, 3), run

page = list_jobs.sync(client=client, name="sum", limit=1)
assert [each.id for each in page.jobs] == [job.id], page
assert JobRequestData.from_dict({"a": 1})["a"] == 1
assert AuthenticatedClient(base_url=sys.argv[1], token="token")
sys.stdout.write("ok")
