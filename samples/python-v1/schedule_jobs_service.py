# Two jobs on one device, each in a thread of its own: locking its doors by a direct method, and setting desired
# properties. The hub of that time had no jobs for Python programs, so the threads look for the device themselves.
#
#     python schedule_jobs_service.py "<connection string of the hub>" <device id>
#
# Its other half is lock_device.py.

import sys
import threading
import time
import uuid

from iothub_service_client import IoTHubDeviceMethod, IoTHubDeviceTwin, IoTHubError
from iothub_service_client import IoTHubRegistryManager, IoTHubRegistryManagerAuthMethod

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"

METHOD_NAME = "lockDoor"
METHOD_PAYLOAD = "{\"lockTime\":\"10m\"}"
TIMEOUT = 60

UPDATE_JSON = "{\"properties\":{\"desired\":{\"building\":43,\"floor\":3}}}"

# The device must be among the first ten of the list.
DEVICES = 10
PRINT_SECONDS = 6


def find_device(job_id):
    registry = IoTHubRegistryManager(CONNECTION_STRING)
    devices = registry.get_device_list(DEVICES)
    for number in range(0, DEVICES):
        if devices[number].deviceId == DEVICE_ID:
            print("Job %s: found %s" % (job_id, DEVICE_ID))
            return True
    return False


def method_job(job_id):
    try:
        if find_device(job_id):
            methods = IoTHubDeviceMethod(CONNECTION_STRING)
            response = methods.invoke(DEVICE_ID, METHOD_NAME, METHOD_PAYLOAD, TIMEOUT)
            print("Job %s: %s answered %d %s" % (job_id, METHOD_NAME, response.status, response.payload))
    except IoTHubError as iothub_error:
        print("Job %s: unexpected error %s" % (job_id, iothub_error))


def twin_job(job_id):
    try:
        if find_device(job_id):
            twins = IoTHubDeviceTwin(CONNECTION_STRING)
            twins.update_twin(DEVICE_ID, UPDATE_JSON)
            print("Job %s: updated the twin" % job_id)
    except IoTHubError as iothub_error:
        print("Job %s: unexpected error %s" % (job_id, iothub_error))


def main():
    try:
        for name, job in (("lock", method_job), ("update", twin_job)):
            job_id = "%s-%s" % (name, uuid.uuid4())
            print("Starting job %s" % job_id)
            thread = threading.Thread(target=job, args=(job_id,))
            thread.start()
            while thread.is_alive():
                print("Job %s: running" % job_id)
                time.sleep(PRINT_SECONDS)
            print("Job %s: done" % job_id)
    except KeyboardInterrupt:
        print("Stopped")


if __name__ == '__main__':
    if len(sys.argv) > 2:
        CONNECTION_STRING, DEVICE_ID = sys.argv[1:3]
    main()
