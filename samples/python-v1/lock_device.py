# A building's door: it is locked by the method lockDoor, and its twin is changed by jobs.
#
#   python lock_device.py "<device connection string>"
#
# Its other half is schedule_jobs_service.py.

import os
import sys
import time

from iothub_client import IoTHubClient, IoTHubClientError, IoTHubClientResult, IoTHubTransportProvider
from iothub_client import DeviceMethodReturnValue, IoTHubTwinUpdateState

CONNECTION_STRING = sys.argv[1] if len(sys.argv) > 1 else os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
TWIN_CONTEXT = 0
METHOD_CONTEXT = 0


def twin_callback(update_state, payload, user_context):
    print("")
    if update_state == IoTHubTwinUpdateState.COMPLETE:
        print("The whole twin: %s" % payload)
    else:
        print("A change (%s): %s" % (update_state, payload))


def method_callback(method_name, payload, user_context):
    if method_name == "lockDoor":
        print("Locking the door!")
        answer = DeviceMethodReturnValue()
        answer.response = "{ \"Response\": \"lockDoor called successfully\" }"
        answer.status = 200
        return answer
    print("No such method: %s" % method_name)


def main():
    try:
        client = IoTHubClient(CONNECTION_STRING, IoTHubTransportProvider.MQTT)
        client.set_device_twin_callback(twin_callback, TWIN_CONTEXT)
        client.set_device_method_callback(method_callback, METHOD_CONTEXT)
        print("The door listens, press Ctrl-C to exit")
        while True:
            time.sleep(10)
    except IoTHubClientError as e:
        if e.args[0].result == IoTHubClientResult.ERROR:
            print("Is the connection string right?")
        print("Unexpected error %s" % e)
    except KeyboardInterrupt:
        print("The door stopped")


if __name__ == '__main__':
    main()
