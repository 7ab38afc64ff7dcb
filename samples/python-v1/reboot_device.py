# A device that "reboots" when the back end calls the method rebootDevice, in the manner of 2017.
#
#   python reboot_device.py "<device connection string>" [seconds a reboot takes]
#
# Its other half is reboot_service.py.

import datetime
import os
import sys
import time

import iothub_client
from iothub_client import IoTHubClient, IoTHubClientError, IoTHubTransportProvider, DeviceMethodReturnValue

CONNECTION_STRING = sys.argv[1] if len(sys.argv) > 1 else os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
PROTOCOL = IoTHubTransportProvider.MQTT
CLIENT = IoTHubClient(CONNECTION_STRING, PROTOCOL)

REBOOT_SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 20
METHOD_CONTEXT = 0
REPORTED_CONTEXT = 0


def send_reported_state_callback(status_code, user_context):
    print("Reported state answered with status %d" % status_code)


def device_method_callback(method_name, payload, user_context):
    print("")
    print("Method called: %s, payload %s" % (method_name, payload))

    if method_name == "rebootDevice":
        current_time = str(datetime.datetime.now())
        reported_state = "{\"rebootTime\":\"" + current_time + "\"}"
        CLIENT.send_reported_state(reported_state, len(reported_state), send_reported_state_callback, REPORTED_CONTEXT)
        print("Rebooting ...")
        time.sleep(REBOOT_SECONDS)
        print("Up again")

    device_method_return_value = DeviceMethodReturnValue()
    device_method_return_value.response = "{ \"Response\": \"This is the response from the device\" }"
    device_method_return_value.status = 200
    return device_method_return_value


def iothub_client_init():
    if CLIENT.protocol == IoTHubTransportProvider.MQTT or CLIENT.protocol == IoTHubTransportProvider.MQTT_WS:
        CLIENT.set_option("logtrace", 0)
        CLIENT.set_device_method_callback(device_method_callback, METHOD_CONTEXT)


def iothub_client_run():
    try:
        iothub_client_init()
        print("Waiting for the reboot method over %s, iothub_client %s" % (PROTOCOL, iothub_client.__version__))
        print("Press Ctrl-C to exit")
        while True:
            time.sleep(10)
    except IoTHubClientError as iothub_error:
        print("Unexpected error {0}".format(iothub_error))
        return
    except KeyboardInterrupt:
        print("Device stopped")


if __name__ == '__main__':
    iothub_client_run()
