"""A job that outlives its hub: killed in the middle and started again on the same data, no call is made twice."""

import datetime
import json
import queue
import threading
import time

import pytest

from hub import eventually
from judges import HUB_SDK
from rawmqtt import Plain
from scheduled import Jobs, among, statistics

operation = pytest.mark.operation
pytestmark = [pytest.mark.sdk(HUB_SDK), pytest.mark.local_only("kills the hub process")]

METHODS = ("$iothub/methods/POST/#", 0)


class Worker:
    """A device that counts the calls it gets; it answers them while `answers` is set, and keeps its mouth shut otherwise."""

    def __init__(self, identity, answers=True):
        self.identity = identity
        self.device_id = identity.device_id
        self.answers = answers
        self.called = 0
        self.client = None

    def connect(self):
        client = self.client = Plain(self.identity)
        assert client.connect()[0] == 0
        client.subscribe(METHODS)
        threading.Thread(target=self._work, args=(client,), daemon=True).start()
        return self

    def _work(self, client):
        while not client.closed.is_set():
            try:
                topic, _ = client.next(timeout=0.2)
            except queue.Empty:
                continue
            self.called += 1
            if self.answers:
                rid = topic.rsplit("/?$rid=", 1)[1]
                body = json.dumps({"by": self.device_id}).encode()
                client.publish(f"$iothub/methods/res/200/?$rid={rid}", body, qos=0)

    def close(self):
        self.client.close()


@pytest.fixture
def new_workers(own_hub, new_device):
    made = []

    def make(count, answers=True, connected=True):
        workers = [Worker(new_device(on=own_hub), answers) for _ in range(count)]
        if connected:
            for worker in workers:
                worker.connect()
        made.extend(workers)
        return workers

    yield make
    for worker in made:
        if worker.client:
            worker.close()


def kill_and_return(hub, workers):
    hub.kill()
    for worker in workers:
        if worker.client:
            worker.client.wait_closed()
    hub.start()
    for worker in workers:
        worker.connect()


@operation("job: survives kill -9")
def test_each_phase_of_a_call_survives_as_what_it_is(own_hub, new_workers):
    done, in_flight, offline = new_workers(10), new_workers(10, answers=False), new_workers(10, connected=False)
    everybody = done + in_flight + offline
    jobs = Jobs(own_hub)
    job_id = jobs.call(among(*everybody), "lock", response=60, max_execution_time_in_seconds=120)
    eventually(lambda: sum(worker.called for worker in done + in_flight) == 20, what="the calls")
    eventually(lambda: len(jobs.rows(job_id, " AND status = 'completed'")) == 10, what="the outcomes")

    kill_and_return(own_hub, everybody)

    jobs = Jobs(own_hub)
    job = jobs.ended(job_id)
    assert (job.status, statistics(job)) == ("completed", (30, 20, 10, 0, 0))
    rows = jobs.rows(job_id)
    assert set(rows) == {worker.device_id for worker in everybody}
    for worker in everybody:
        row = rows[worker.device_id]
        assert worker.called == 1, "nobody is called twice"
        if worker in in_flight:
            assert row["status"] == "failed", "what became of the call is not known, and the row says so"
            assert row["error"]["description"]
        else:
            assert row["status"] == "completed"
            assert row["outcome"]["deviceMethodResponse"] == {"status": 200, "payload": {"by": worker.device_id}}


@operation("job: survives kill -9")
@pytest.mark.parametrize("after", [1, 7, 15, 29])
def test_a_kill_at_any_moment_leaves_one_outcome_per_device(own_hub, new_workers, after):
    workers = new_workers(30)
    jobs = Jobs(own_hub)
    job_id = jobs.call(among(*workers), "lock", response=10, max_execution_time_in_seconds=60)
    eventually(lambda: sum(worker.called for worker in workers) >= after, what=f"{after} calls")

    kill_and_return(own_hub, workers)

    jobs = Jobs(own_hub)
    job = jobs.ended(job_id, 60)
    rows = jobs.rows(job_id)
    assert set(rows) == {worker.device_id for worker in workers}
    assert {row["status"] for row in rows.values()} <= {"completed", "failed"}
    for worker in workers:
        assert worker.called <= 1, "nobody is called twice"
        if rows[worker.device_id]["status"] == "completed":
            assert worker.called == 1
    succeeded = sum(row["status"] == "completed" for row in rows.values())
    assert (job.status, statistics(job)) == ("completed", (30, succeeded, 30 - succeeded, 0, 0))


@operation("job: survives kill -9")
def test_a_twin_job_is_carried_out_once_on_each_device(own_hub):
    count = 1000
    for start in range(0, count, 100):
        entries = [{"id": f"d{n:04}", "importMode": "create"} for n in range(start, start + 100)]
        assert own_hub.https.post("/devices", entries).status == 200
    jobs = Jobs(own_hub)
    job_id = jobs.update("*", desired={"floor": 3})
    eventually(lambda: own_hub.https.get("/twins/d0000").json["properties"]["desired"].get("floor") == 3)

    own_hub.kill()
    own_hub.start()

    jobs = Jobs(own_hub)
    job = jobs.ended(job_id, 60)
    assert (job.status, statistics(job)) == ("completed", (count, count, 0, 0, 0))
    assert len(jobs.rows(job_id, page=1000)) == count
    once = own_hub.https.post(
        "/devices/query",
        {"query": "SELECT COUNT() AS n FROM devices WHERE properties.desired.floor = 3 AND properties.desired.$version = 2"},
    )
    assert once.json == [{"n": count}], "each twin was written once"


@operation("job: survives kill -9")
def test_scheduled_cancelled_and_ended_jobs_are_there_after_a_kill(own_hub, new_workers):
    (worker,) = new_workers(1)
    jobs = Jobs(own_hub)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    scheduled = jobs.call(among(worker), start_time=soon)
    cancelled = jobs.call(among(worker), start_time=soon)
    jobs.manager.cancel_scheduled_job(cancelled)
    ended = jobs.ended(jobs.update(among(worker), tags={"a": 1}))

    kill_and_return(own_hub, [worker])

    jobs = Jobs(own_hub)
    assert jobs.get(cancelled).status == "cancelled"
    assert jobs.get(ended.job_id).serialize(keep_readonly=True) == ended.serialize(keep_readonly=True)
    assert jobs.ended(scheduled).status == "completed"
    assert worker.called == 1


@operation("job: survives kill -9")
def test_the_offline_deadline_passes_while_the_hub_is_down(own_hub, new_workers):
    (worker,) = new_workers(1, connected=False)
    jobs = Jobs(own_hub)
    job_id = jobs.call(among(worker), max_execution_time_in_seconds=2)
    eventually(lambda: jobs.get(job_id).status == "running")
    over = time.time() + 2
    own_hub.kill()
    eventually(lambda: time.time() > over, what="the end of the job's time")
    own_hub.start()
    worker.connect()
    jobs = Jobs(own_hub)
    assert statistics(jobs.ended(job_id)) == (1, 0, 1, 0, 0)
    assert jobs.rows(job_id)[worker.device_id]["error"]["code"] == "JobRunPreconditionFailed"
    assert worker.called == 0
