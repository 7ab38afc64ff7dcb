# Starts a firmware update on a device and follows it through the twin, in which the device reports each step.
#
#     python firmware_update_service.py "<connection string of the hub>" <device id>
#
# Its other half is firmware_update_device.py.

import sys
import time

import iothub_service_client
from iothub_service_client import IoTHubDeviceMethod, IoTHubDeviceTwin, IoTHubError

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"

METHOD_NAME = "firmwareUpdate"
METHOD_PAYLOAD = "{\"fwPackageUri\":\"https://example.com/firmware-2.0\"}"
TIMEOUT = 60

POLL_SECONDS = 6
STEPS = ["standBy", "downloading", "applying", "completed"]

# Made before anything is sent; neither of the two opens a connection.
TWINS = None
METHODS = None


def current_step(twin):
    for step in STEPS:
        if "\"firmwareStatus\":\"%s\"" % step in twin:
            return step
    return None


def follow(last):
    # Prints each new step until the last one comes.
    seen = None
    while seen != last:
        step = current_step(TWINS.get_twin(DEVICE_ID))
        if step is None:
            print("The device has reported nothing yet")
        elif step != seen:
            print("Firmware status: %s" % step)
            seen = step
        if seen != last:
            time.sleep(POLL_SECONDS)


def main():
    global TWINS, METHODS
    print("iothub_service_client %s" % iothub_service_client.__version__)
    try:
        TWINS = IoTHubDeviceTwin(CONNECTION_STRING)
        METHODS = IoTHubDeviceMethod(CONNECTION_STRING)
        follow("standBy")
        response = METHODS.invoke(DEVICE_ID, METHOD_NAME, METHOD_PAYLOAD, TIMEOUT)
        print("The device answered:")
        print(response.payload)
        follow("completed")
    except IoTHubError as iothub_error:
        print("Unexpected error %s" % iothub_error)
        return 1
    except KeyboardInterrupt:
        print("Stopped")
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 2:
        CONNECTION_STRING, DEVICE_ID = sys.argv[1:3]
    sys.exit(main())
