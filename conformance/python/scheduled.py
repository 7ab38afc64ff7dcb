"""Jobs as azure-iot-hub creates and reads them, in the fewest words."""

import uuid

from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties

from hub import eventually

METHOD, TWIN = "scheduleDeviceMethod", "scheduleUpdateTwin"
ENDED = ("completed", "failed", "cancelled")


def among(*devices):
    """The condition that holds for these devices."""
    return f"deviceId IN [{', '.join(repr(getattr(device, 'device_id', device)) for device in devices)}]"


class Jobs:
    """The job manager of one hub. Job ids are made here, so that no two tests share one."""

    def __init__(self, hub):
        self.hub = hub
        self.manager = IoTHubJobManager.from_connection_string(hub.connection_string)

    @staticmethod
    def new_id():
        return f"job-{uuid.uuid4().hex[:12]}"

    def create(self, request, job_id=None):
        request.job_id = job_id or request.job_id or self.new_id()
        self.manager.create_scheduled_job(request.job_id, request)
        return request.job_id

    def call(self, condition, method="lock", payload=None, response=30, connect=0, job_id=None, **fields):
        """Schedules a method call; returns the job's id."""
        method = CloudToDeviceMethod(
            method_name=method,
            payload=payload,
            response_timeout_in_seconds=response,
            connect_timeout_in_seconds=connect,
        )
        fields.setdefault("max_execution_time_in_seconds", 60)
        return self.create(
            JobRequest(type=METHOD, cloud_to_device_method=method, query_condition=condition, **fields), job_id
        )

    def update(self, condition, tags=None, desired=None, job_id=None, **fields):
        """Schedules a twin update; returns the job's id."""
        twin = Twin(etag="*", tags=tags, properties=TwinProperties(desired=desired) if desired is not None else None)
        fields.setdefault("max_execution_time_in_seconds", 60)
        return self.create(JobRequest(type=TWIN, update_twin=twin, query_condition=condition, **fields), job_id)

    def get(self, job_id):
        return self.manager.get_scheduled_job(job_id)

    def ended(self, job_id, timeout=45):
        """The job as it is when nothing more happens to it."""
        return eventually(lambda: self._if_ended(job_id), timeout, f"the end of {job_id}")

    def _if_ended(self, job_id):
        job = self.get(job_id)
        return job if job.status in ENDED else None

    def rows(self, job_id, condition="", page=None):
        """What the job did to each device, by device id, through `query_iot_hub`."""
        text = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}'{condition}"
        rows, token = {}, None
        while True:
            result = self.hub.registry.query_iot_hub(QuerySpecification(query=text), token, page)
            assert result.type == "DeviceJob"
            for item in result.items:
                assert item.device_id not in rows, "one row per device"
                rows[item.device_id] = {"status": item.status, **item.additional_properties}
            token = result.continuation_token
            if token is None:
                return rows


def statistics(job):
    """(devices, succeeded, failed, running, pending)"""
    counts = job.device_job_statistics
    return (
        counts.device_count,
        counts.succeeded_count,
        counts.failed_count,
        counts.running_count,
        counts.pending_count,
    )
