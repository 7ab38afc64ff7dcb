# A device that goes through a firmware update, as far as its twin tells: standBy, downloading, applying, completed.
#
#   python firmware_update_device.py "<device connection string>" [seconds each step takes]
#
# Its other half is firmware_update_service.py.

import datetime
import os
import sys
import threading
import time

from iothub_client import IoTHubClient, IoTHubClientError, IoTHubTransportProvider, DeviceMethodReturnValue

CONNECTION_STRING = sys.argv[1] if len(sys.argv) > 1 else os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
STEP_SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 15
PROTOCOL = IoTHubTransportProvider.MQTT
CLIENT = IoTHubClient(CONNECTION_STRING, PROTOCOL)

SEND_REPORTED_STATE_CONTEXT = 0
METHOD_CONTEXT = 0
MESSAGE_COUNT = 0


def send_reported_state_callback(status_code, user_context):
    global MESSAGE_COUNT
    MESSAGE_COUNT += 1
    print("  (report %d: status %d)" % (MESSAGE_COUNT, status_code))


def report(status):
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    state = "{\"firmwareStatus\":\"" + status + "\", \"logTime\":\"" + now + "\"}"
    CLIENT.send_reported_state(state, len(state), send_reported_state_callback, SEND_REPORTED_STATE_CONTEXT)
    print("Firmware status: " + status)


def simulate_update(payload):
    print("New package: " + payload)
    report("downloading")
    time.sleep(STEP_SECONDS)
    report("applying")
    time.sleep(STEP_SECONDS)
    report("completed")
    time.sleep(STEP_SECONDS)
    report("standBy")


def device_method_callback(method_name, payload, user_context):
    if method_name == "firmwareUpdate":
        print("Firmware update starts")
        thread = threading.Thread(target=simulate_update, args=(payload,))
        thread.daemon = True
        thread.start()
        value = DeviceMethodReturnValue()
        value.response = "{ \"Response\": \"Firmware update started\" }"
        value.status = 200
        return value


def run():
    try:
        CLIENT.set_device_method_callback(device_method_callback, METHOD_CONTEXT)
        report("standBy")
        print("IoTHubClient over %s waits for a firmware update, Ctrl-C to exit" % PROTOCOL)
        while True:
            time.sleep(10)
    except IoTHubClientError as e:
        print("Unexpected error {0}".format(e))
    except KeyboardInterrupt:
        print("Device stopped")


if __name__ == '__main__':
    run()
