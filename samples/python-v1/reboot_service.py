# Asks a device to reboot, then watches its twin until the device tells when it did.
#
#     python reboot_service.py "<connection string of the hub>" <device id>
#
# Its other half is reboot_device.py.

import sys
import time

from iothub_service_client import IoTHubDeviceMethod, IoTHubDeviceTwin, IoTHubError

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"

METHOD_NAME = "rebootDevice"
METHOD_PAYLOAD = "{\"delay\": 5}"
TIMEOUT = 60

POLLS = 10
POLL_SECONDS = 5


def last_reboot(twin):
    # The twin is text without blanks: "rebootTime":"2019-01-01 00:00:00.000000"
    found = twin.find("rebootTime")
    if found == -1:
        return None
    return twin[found + 11:found + 37]


def main():
    try:
        twins = IoTHubDeviceTwin(CONNECTION_STRING)
        methods = IoTHubDeviceMethod(CONNECTION_STRING)

        print("Asking %s to reboot" % DEVICE_ID)
        response = methods.invoke(DEVICE_ID, METHOD_NAME, METHOD_PAYLOAD, TIMEOUT)
        print("The device answered %d:" % response.status)
        print(response.payload)

        for _ in range(POLLS):
            rebooted = last_reboot(twins.get_twin(DEVICE_ID))
            if rebooted is not None:
                print("Last reboot time: " + rebooted)
                break
            print("Waiting for the device to report its last reboot")
            time.sleep(POLL_SECONDS)

    except IoTHubError as iothub_error:
        print("Unexpected error {0}".format(iothub_error))
        return 1
    except KeyboardInterrupt:
        print("Stopped")
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 2:
        CONNECTION_STRING, DEVICE_ID = sys.argv[1:3]
    sys.exit(main())
