"""Jobs v2: created, watched and read with azure-iot-hub; carried out on azure-iot-device; shapes in plain HTTPS."""

import concurrent.futures
import datetime
import re
import threading
import time
from urllib.parse import quote

import pytest
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, Twin

from hub import eventually
from judges import HTTPS, HUB_SDK
from scheduled import METHOD, TWIN, Jobs, among, statistics
from test_queries import every_row
from test_registry import status_of

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")


@pytest.fixture
def jobs(hub):
    return Jobs(hub)


def in_seconds(seconds):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)


@pytest.fixture
def answering(new_device, connect):
    """Makes a connected device that answers every call with `status` and keeps what it was called with in `calls`."""

    def make(status=200, payload=None, answer=None):
        device = new_device()
        device.calls = []
        client = connect(device)

        def called(request):
            device.calls.append((request.name, request.payload))
            return answer(request) if answer else (status, {"from": device.device_id} if payload is None else payload)

        client.on_method(called)
        device.client = client
        return device

    return make


# ---------------------------------------------------------------- method jobs


@sdk
@operation("job: call a method")
def test_a_job_calls_each_device_once_and_keeps_what_it_answered(jobs, answering):
    devices = [answering(), answering(status=500, payload="no"), answering(status=-7, payload=[1, None])]
    job = jobs.ended(jobs.call(among(*devices), "lockDoor", {"floor": 3}))
    assert (job.status, job.type, job.failure_reason) == ("completed", METHOD, None)
    assert statistics(job) == (3, 3, 0, 0, 0)
    assert all(device.calls == [("lockDoor", {"floor": 3})] for device in devices)
    rows = jobs.rows(job.job_id)
    wanted = ((200, {"from": devices[0].device_id}), (500, "no"), (-7, [1, None]))
    for device, (status, payload) in zip(devices, wanted):
        row = rows[device.device_id]
        assert row["status"] == "completed", "what the device answers is its own affair"
        assert row["outcome"] == {"deviceMethodResponse": {"status": status, "payload": payload}}
        assert (row["jobType"], "error" in row) == (METHOD, False)


@sdk
@operation("job: call a method")
def test_the_job_echoes_what_was_asked(jobs, answering):
    device = answering()
    job_id = jobs.call(among(device), "echo", {"a": 1}, response=17, max_execution_time_in_seconds=77)
    job = jobs.get(job_id)
    assert (job.job_id, job.type, job.query_condition) == (job_id, METHOD, among(device))
    assert job.max_execution_time_in_seconds == 77
    method = job.cloud_to_device_method
    assert (method.method_name, method.payload, method.response_timeout_in_seconds) == ("echo", {"a": 1}, 17)
    assert job.created_time <= in_seconds(1)
    job = jobs.ended(job_id)
    assert job.created_time <= job.start_time <= job.end_time


@sdk
@operation("job: call a method")
def test_a_device_that_does_not_answer_fails_alone(jobs, answering, new_device, connect):
    silent = new_device()
    connect(silent).on_method()
    good = answering()
    job = jobs.ended(jobs.call(among(silent, good), response=5, max_execution_time_in_seconds=30))
    assert (job.status, statistics(job)) == ("completed", (2, 1, 1, 0, 0))
    row = jobs.rows(job.job_id)[silent.device_id]
    assert (row["status"], row["error"]["code"]) == ("failed", "GatewayTimeout")
    assert row["error"]["description"]
    assert row["outcome"] == {}


@sdk
@operation("job: offline devices")
def test_an_offline_device_fails_when_its_time_is_over(jobs, new_device, answering):
    offline, online = new_device(), answering()
    started = time.monotonic()
    job = jobs.ended(jobs.call(among(offline, online), max_execution_time_in_seconds=2))
    assert time.monotonic() - started >= 2
    assert (job.status, statistics(job)) == ("completed", (2, 1, 1, 0, 0))
    row = jobs.rows(job.job_id)[offline.device_id]
    assert (row["status"], row["error"]["code"]) == ("failed", "JobRunPreconditionFailed")
    assert row["outcome"] == {}


@sdk
@operation("job: offline devices")
def test_a_device_that_connects_in_time_is_called_then(jobs, new_device, connect):
    device = new_device()
    job_id = jobs.call(among(device), payload="late", max_execution_time_in_seconds=60)
    eventually(lambda: jobs.get(job_id).status == "running")
    waiting = eventually(lambda: jobs.get(job_id).device_job_statistics)
    assert waiting.device_count == 1
    client = connect(device)
    client.on_method(lambda request: (200, request.payload))
    job = jobs.ended(job_id)
    assert statistics(job) == (1, 1, 0, 0, 0)
    assert jobs.rows(job_id)[device.device_id]["outcome"]["deviceMethodResponse"]["payload"] == "late"


@sdk
@operation("job: devices that vanish")
def test_a_device_deleted_before_its_turn_is_recorded(jobs, new_device, registry, answering):
    doomed, other = new_device(), answering()
    job_id = jobs.call(among(doomed, other), max_execution_time_in_seconds=60)
    eventually(lambda: other.calls)
    registry.delete_device(doomed.device_id)
    job = jobs.ended(job_id)
    assert (job.status, statistics(job)) == ("completed", (2, 1, 1, 0, 0))
    row = jobs.rows(job_id)[doomed.device_id]
    assert (row["status"], row["error"]["code"]) == ("failed", "DeviceNotFound")


@sdk
@operation("job: devices that vanish")
def test_a_device_deleted_before_the_start_is_not_in_the_job(jobs, new_device, registry):
    doomed, other = new_device(), new_device()
    job_id = jobs.update(among(doomed, other), tags={"a": 1}, start_time=in_seconds(2))
    registry.delete_device(doomed.device_id)
    assert statistics(jobs.ended(job_id)) == (1, 1, 0, 0, 0)
    assert set(jobs.rows(job_id)) == {other.device_id}


# ---------------------------------------------------------------- twin jobs


@sdk
@operation("job: update twins")
def test_a_job_updates_tags_and_desired_of_each_device(jobs, new_device, connect, registry):
    online, offline = new_device(), new_device()
    client = connect(online)
    client.watch_desired()
    client.get_twin()
    for device in (online, offline):
        device.patch_twin({"tags": {"site": "A", "old": True}})
    job = jobs.ended(jobs.update(among(online, offline), tags={"site": "B", "old": None}, desired={"floor": 3}))
    assert (job.status, job.type, statistics(job)) == ("completed", TWIN, (2, 2, 0, 0, 0))
    assert client.next_desired() == {"floor": 3, "$version": 2}
    for device in (online, offline):
        twin = registry.get_twin(device.device_id)
        assert (twin.tags, twin.properties.desired["floor"]) == ({"site": "B"}, 3)
        assert twin.properties.desired["$version"] == 2
    for row in jobs.rows(job.job_id).values():
        assert (row["status"], row["jobType"], "error" in row) == ("completed", TWIN, False)


@sdk
@operation("job: update twins")
def test_the_update_is_echoed(jobs, new_device):
    job = jobs.get(jobs.update(among(new_device()), tags={"a": {"b": 1}}))
    assert job.update_twin.etag == "*"
    assert job.update_twin.tags == {"a": {"b": 1}}


@sdk
@operation("job: update twins")
def test_a_limit_that_one_twin_breaks_fails_that_twin_alone(jobs, new_device):
    full, empty = new_device(), new_device()
    full.patch_twin({"tags": {"fill": "x" * 4000, "more": "x" * 4000}})
    job = jobs.ended(jobs.update(among(full, empty), tags={"extra": "x" * 1000}))
    assert (job.status, statistics(job)) == ("completed", (2, 1, 1, 0, 0))
    row = jobs.rows(job.job_id)[full.device_id]
    assert (row["status"], row["error"]["code"]) == ("failed", "ArgumentInvalid")


@sdk
@operation("job: update twins")
def test_modules_are_not_touched(jobs, new_module, registry):
    module = new_module()
    jobs.ended(jobs.update(among(module.device_id), tags={"a": 1}))
    assert registry.get_twin(module.device_id).tags == {"a": 1}
    assert not registry.get_module_twin(module.device_id, module.module_id).tags


@sdk
@operation("job: update twins")
def test_a_thousand_devices(jobs, hub, new_id):
    stem = new_id("many")
    for start in range(0, 1000, 100):
        entries = [{"id": f"{stem}-{n}", "importMode": "create", "tags": {"batch": stem}} for n in range(start, start + 100)]
        assert hub.https.post("/devices", entries).status == 200
    job = jobs.ended(jobs.update(f"tags.batch = '{stem}'", desired={"floor": 3}))
    assert statistics(job) == (1000, 1000, 0, 0, 0)
    assert len(jobs.rows(job.job_id, page=300)) == 1000
    counted = hub.https.post(
        "/devices/query",
        {"query": f"SELECT COUNT() AS n FROM devices WHERE tags.batch = '{stem}' AND properties.desired.floor = 3"},
    )
    assert counted.json == [{"n": 1000}]


# ---------------------------------------------------------------- when


@sdk
@operation("job: start time")
def test_a_job_with_a_future_start_waits_for_it(jobs, answering):
    device = answering()
    start = in_seconds(3)
    job_id = jobs.call(among(device), start_time=start)
    job = eventually(lambda: (job := jobs.get(job_id)).status == "scheduled" and job)
    assert abs((job.start_time - start).total_seconds()) < 0.01
    assert device.calls == []
    job = jobs.ended(job_id)
    assert (job.status, len(device.calls)) == ("completed", 1)
    assert job.end_time >= start


@sdk
@operation("job: start time")
def test_a_start_in_the_past_or_without_a_zone_is_now(jobs, new_device):
    device = new_device()
    naive = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    for start in (in_seconds(-86400), naive):
        assert jobs.ended(jobs.update(among(device), tags={"a": 1}, start_time=start)).status == "completed"


@sdk
@operation("job: start time")
def test_the_devices_are_chosen_at_the_start(jobs, new_device, new_id):
    group = new_id("group")
    job_id = jobs.update(f"tags.team = '{group}'", tags={"seen": True}, start_time=in_seconds(2))
    late = new_device()
    late.patch_twin({"tags": {"team": group}})
    assert statistics(jobs.ended(job_id)) == (1, 1, 0, 0, 0)
    assert late.twin()["tags"]["seen"] is True


@sdk
@operation("job: start time")
def test_a_start_years_ahead_is_kept(jobs):
    job_id = jobs.update("deviceId = 'nobody'", tags={"a": 1}, start_time=in_seconds(20 * 365 * 86400))
    eventually(lambda: jobs.get(job_id).status == "scheduled")
    jobs.manager.cancel_scheduled_job(job_id)


@sdk
@operation("job: start time")
def test_many_jobs_wait_side_by_side(jobs, new_device):
    device = new_device()
    ids = [jobs.update(among(device), tags={f"j{n}": True}, start_time=in_seconds(2)) for n in range(40)]
    for job_id in ids:
        assert jobs.ended(job_id).status == "completed"
    assert set(device.twin()["tags"]) == {f"j{n}" for n in range(40)}


# ---------------------------------------------------------------- cancelling


@sdk
@operation("job: cancel")
def test_a_scheduled_job_is_cancelled(jobs, answering):
    device = answering()
    job_id = jobs.call(among(device), start_time=in_seconds(3600))
    cancelled = jobs.manager.cancel_scheduled_job(job_id)
    assert (cancelled.job_id, cancelled.status) == (job_id, "cancelled")
    assert jobs.get(job_id).status == "cancelled"
    assert device.calls == []


@sdk
@operation("job: cancel")
def test_a_running_job_stops_what_has_not_begun(jobs, new_device, connect):
    device = new_device()
    job_id = jobs.call(among(device), max_execution_time_in_seconds=600)
    eventually(lambda: jobs.get(job_id).status == "running")
    jobs.manager.cancel_scheduled_job(job_id)
    job = jobs.ended(job_id)
    assert job.status == "cancelled"
    rows = jobs.rows(job_id)
    assert [row["status"] for row in rows.values()] == ["canceled"]
    client = connect(device)
    client.on_method()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(device.invoke, "other")
        request = client.next_method()
        assert request.name == "other", "the first call that reaches the device is not the job's"
        client.answer(request)
        call.result()


@sdk
@operation("job: cancel")
def test_an_ended_job_cannot_be_cancelled(jobs, new_device):
    job = jobs.ended(jobs.update(among(new_device()), tags={"a": 1}))
    assert status_of(jobs.manager.cancel_scheduled_job, job.job_id)[0] in (400, 412)
    assert jobs.get(job.job_id).status == "completed"


@sdk
@operation("job: cancel")
def test_an_unknown_job_is_not_found(jobs):
    assert status_of(jobs.manager.cancel_scheduled_job, jobs.new_id()) == (404, "Not Found")
    assert status_of(jobs.get, jobs.new_id()) == (404, "Not Found")


# ---------------------------------------------------------------- what is refused, and what fails later


@sdk
@operation("job: errors")
@pytest.mark.parametrize("condition", ["tags.a = = 1", "SELECT * FROM devices", "tags.group = 1", "NOSUCH(deviceId)"])
def test_a_bad_condition_fails_the_job_and_not_the_request(jobs, condition):
    job = jobs.ended(jobs.update(condition, tags={"a": 1}))
    assert job.status == "failed"
    assert re.search(r"line 1[:,]", job.failure_reason, re.IGNORECASE), job.failure_reason
    assert jobs.rows(job.job_id) == {}


@sdk
@operation("job: errors")
def test_positions_in_a_condition_count_behind_the_prefix_of_the_job_engine(jobs):
    job = jobs.ended(jobs.update("SELECT * FROM devices", tags={"a": 1}))
    assert re.search(r"line 1(:29|, column 29)", job.failure_reason, re.IGNORECASE), job.failure_reason


@sdk
@operation("job: errors")
def test_a_condition_over_the_limit_fails_the_job(jobs):
    job = jobs.ended(jobs.update("tags.a = '" + "x" * 8300 + "'", tags={"a": 1}))
    assert job.status == "failed"
    assert job.failure_reason


@sdk
@operation("job: errors")
def test_a_condition_that_nothing_meets_completes_with_nothing(jobs):
    job = jobs.ended(jobs.update("deviceId = 'nobody'", tags={"a": 1}))
    assert (job.status, statistics(job)) == ("completed", (0, 0, 0, 0, 0))
    assert jobs.rows(job.job_id) == {}


@sdk
@operation("job: errors")
def test_an_id_is_used_once(jobs, new_device):
    job_id = jobs.update(among(new_device()), tags={"a": 1}, start_time=in_seconds(3600))
    assert status_of(jobs.update, "*", tags={"a": 2}, job_id=job_id, start_time=in_seconds(3600)) == (409, "Conflict")
    jobs.manager.cancel_scheduled_job(job_id)
    assert status_of(jobs.update, "*", tags={"a": 2}, job_id=job_id, start_time=in_seconds(3600))[0] == 409


@sdk
@operation("job: errors")
@pytest.mark.parametrize(
    "request_",
    [
        JobRequest(type="scheduleSomething", query_condition="*"),
        JobRequest(type=METHOD, query_condition="*"),
        JobRequest(type=METHOD, query_condition="*", cloud_to_device_method=CloudToDeviceMethod(payload=1)),
        JobRequest(type=TWIN, query_condition="*"),
        JobRequest(type=TWIN, update_twin=Twin(etag="*", tags={"a": 1})),
        JobRequest(type=TWIN, query_condition="*", update_twin=Twin(etag="*", tags={"a.b": 1})),
        JobRequest(query_condition="*"),
    ],
    ids=["unknown type", "no method", "no method name", "no update", "no condition", "bad key", "no type"],
)
def test_an_impossible_request_is_refused(jobs, request_):
    assert status_of(jobs.create, request_)[0] == 400
    assert status_of(jobs.get, request_.job_id)[0] == 404


@plain
@operation("job: errors")
@pytest.mark.parametrize("job_id", ["a b", "a/b", "ü", "x" * 65, "a'b"])
def test_an_impossible_job_id_is_refused(https, job_id):
    body = {"jobId": job_id, "type": TWIN, "queryCondition": "deviceId = 'nobody'", "updateTwin": {"tags": {"a": 1}}}
    answer = https.put(f"/jobs/v2/{quote(job_id, safe='')}", body)
    assert answer.status == 400
    assert answer.error_code


@plain
@operation("job: errors")
def test_a_patch_of_ten_megabytes_is_refused(https):
    body = {"jobId": "big", "type": TWIN, "queryCondition": "*", "updateTwin": {"tags": {"a": "x" * 10_000_000}}}
    assert https.put("/jobs/v2/big", body).status in (400, 413)
    assert https.get("/jobs/v2/big").status == 404


@plain
@operation("job: errors")
def test_the_errors_are_named(https, jobs):
    assert https.get(f"/jobs/v2/{jobs.new_id()}").error_code == "JobNotFound"
    assert https.post(f"/jobs/v2/{jobs.new_id()}/cancel").error_code == "JobNotFound"
    body = {"type": TWIN, "queryCondition": "deviceId = 'nobody'", "updateTwin": {"tags": {"a": 1}}}
    job_id = jobs.new_id()
    assert https.put(f"/jobs/v2/{job_id}", body).status == 200
    again = https.put(f"/jobs/v2/{job_id}", body)
    assert (again.status, again.error_code) == (409, "JobAlreadyExists")
    assert again.message.startswith("ErrorCode:JobAlreadyExists;")
    unknown = https.put(f"/jobs/v2/{jobs.new_id()}", {**body, "type": "scheduleSomething"})
    assert (unknown.status, unknown.error_code) == (400, "GenericBadRequest")


# ---------------------------------------------------------------- shapes


@plain
@operation("job: shapes")
def test_the_answer_of_a_create_and_of_a_read(https, jobs, new_device):
    device = new_device()
    job_id = jobs.new_id()
    body = {
        "jobId": job_id, "type": TWIN, "queryCondition": among(device), "updateTwin": {"tags": {"x": 1}},
        "startTime": "", "maxExecutionTimeInSeconds": 0, "unheardOf": True,
    }  # fmt: skip
    body.pop("startTime")
    created = https.put(f"/jobs/v2/{job_id}", body)
    assert created.status == 200
    assert {"jobId", "type", "status"} <= set(created.json)
    assert created.json["status"] in ("queued", "enqueued", "scheduled", "running", "completed")
    jobs.ended(job_id)
    job = https.get(f"/jobs/v2/{job_id}").json
    assert job["updateTwin"]["etag"] == "*", "forced, as nothing else was asked"
    assert job["maxExecutionTimeInSeconds"] == 3600
    for name in ("createdTime", "startTime", "endTime"):
        assert TIMESTAMP.fullmatch(job[name]), name
        assert f"{name[:-4]}DateTimeUtc" not in job and f"{name}Utc" not in job, "Java takes one spelling"
    assert (job["failureReason"], job["statusMessage"]) == (None, None)
    counts = {"deviceCount": 1, "failedCount": 0, "succeededCount": 1, "runningCount": 0, "pendingCount": 0}
    assert job["deviceJobStatistics"] == counts


@plain
@operation("job: shapes")
def test_the_row_of_a_device(https, jobs, new_device):
    device = new_device()
    job_id = jobs.update(among(device), tags={"x": 1})
    jobs.ended(job_id)
    answer = https.post("/devices/query", {"query": f"SELECT * FROM devices.jobs WHERE jobId = '{job_id}'"})
    assert answer.headers["x-ms-item-type"] == "DeviceJob"
    (row,) = answer.json
    assert (row["deviceId"], row["jobId"], row["jobType"], row["status"]) == (device.device_id, job_id, TWIN, "completed")
    for name in ("startTimeUtc", "endTimeUtc", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
        assert TIMESTAMP.fullmatch(row[name]), name
    assert row["outcome"] in ({}, {"deviceMethodResponse": None})


@plain
@operation("job: shapes")
def test_a_job_is_created_without_an_id_in_the_body_and_not_with_another(https, jobs):
    body = {"type": TWIN, "queryCondition": "deviceId = 'nobody'", "updateTwin": {"tags": {"a": 1}}}
    assert https.put(f"/jobs/v2/{jobs.new_id()}", body).status == 200
    assert https.put(f"/jobs/v2/{jobs.new_id()}", {**body, "jobId": "another"}).status == 400


@plain
@operation("job: shapes")
def test_cancelling_takes_a_body_or_none(https, jobs):
    for body in (None, {}):
        job_id = jobs.update("deviceId = 'nobody'", tags={"a": 1}, start_time=in_seconds(3600))
        answer = https.post(f"/jobs/v2/{job_id}/cancel", body)
        assert (answer.status, answer.json["status"]) == (200, "cancelled")


# ---------------------------------------------------------------- lists


@sdk
@operation("job: list")
def test_the_sdk_lists_jobs_in_spite_of_its_model(jobs):
    """Its model is an object where the service sends an array; the hub knows its User-Agent (service §10.1)."""
    job_id = jobs.update("deviceId = 'nobody'", tags={"a": 1}, start_time=in_seconds(3600))
    eventually(lambda: jobs.get(job_id).status == "scheduled")
    result = jobs.manager.query_scheduled_jobs(TWIN, "scheduled")
    assert any(item["jobId"] == job_id for item in result.items)
    assert all(item["type"] == TWIN and item["status"] == "scheduled" for item in result.items)
    jobs.manager.cancel_scheduled_job(job_id)
    assert job_id not in [item["jobId"] for item in jobs.manager.query_scheduled_jobs(TWIN, "scheduled").items]


def every_job(https, parameters="", **headers):
    found, token = [], None
    while True:
        sent = dict(headers, **({"x-ms-continuation": token} if token else {}))
        answer = https.get(f"/jobs/v2/query?{parameters}", headers=sent)
        assert (answer.status, answer.headers["x-ms-item-type"]) == (200, "JobResponse")
        found += answer.json
        token = answer.headers.get("x-ms-continuation")
        if token is None:
            return found


@plain
@operation("job: list")
def test_a_list_is_an_array_in_pages(https, jobs):
    ids = {jobs.update("deviceId = 'nobody'", tags={"a": 1}) for _ in range(7)}
    for job_id in ids:
        jobs.ended(job_id)
    first = https.get("/jobs/v2/query", headers={"x-ms-max-item-count": "3"})
    assert len(first.json) == 3
    assert first.headers["x-ms-continuation"]
    found = [job["jobId"] for job in every_job(https, **{"x-ms-max-item-count": "3"})]
    assert ids <= set(found)
    assert len(found) == len(set(found))
    completed = every_job(https, f"jobType={TWIN}&jobStatus=completed")
    assert ids <= {job["jobId"] for job in completed}
    assert {(job["type"], job["status"]) for job in completed} == {(TWIN, "completed")}
    assert not ids & {job["jobId"] for job in every_job(https, f"jobType={METHOD}")}


@plain
@operation("job: list")
@pytest.mark.parametrize("parameters", ["jobStatus=sleeping", "jobType=scheduleSomething"])
def test_an_unknown_filter_finds_nothing_or_is_refused(https, parameters):
    answer = https.get(f"/jobs/v2/query?{parameters}")
    assert answer.status == 400 or answer.json == []


@sdk
@operation("job: per-device rows")
def test_rows_are_found_by_device_status_and_outcome(jobs, answering, new_device, registry):
    good, bad = answering(), new_device()
    job_id = jobs.call(among(good, bad), max_execution_time_in_seconds=1)
    jobs.ended(job_id)
    assert set(jobs.rows(job_id, " AND devices.jobs.status = 'completed'")) == {good.device_id}
    assert set(jobs.rows(job_id, " AND error.code = 'JobRunPreconditionFailed'")) == {bad.device_id}
    assert set(jobs.rows(job_id, " AND outcome.deviceMethodResponse.status = 200")) == {good.device_id}
    assert set(jobs.rows(job_id, f" AND devices.jobs.jobType = '{METHOD}'")) == {good.device_id, bad.device_id}
    other = jobs.update(among(good), tags={"a": 1})
    jobs.ended(other)
    rows, _ = every_row(registry, f"SELECT * FROM devices.jobs WHERE deviceId = '{good.device_id}'", page=1)
    assert {row.additional_properties["jobId"] for row in rows} == {job_id, other}


# ---------------------------------------------------------------- beside other traffic


@sdk
@operation("job: beside other traffic")
def test_calls_go_through_while_a_job_waits_for_its_devices(jobs, answering, new_device, connect):
    release = threading.Event()

    def hold(request):
        release.wait(20)
        return 200, None

    slow = [answering(answer=hold) for _ in range(5)]
    job_id = jobs.call(among(*slow))
    eventually(lambda: all(device.calls for device in slow))
    free = answering()
    assert free.invoke("now", 1).status == 200
    assert jobs.get(job_id).status == "running"
    release.set()
    assert statistics(jobs.ended(job_id)) == (5, 5, 0, 0, 0)
