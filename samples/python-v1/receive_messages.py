# Prints what the back end sends to this device.
#
#   python receive_messages.py "<device connection string>"
#
# Its other half is send_messages.py.

import os
import sys
import time

from iothub_client import IoTHubClient, IoTHubClientError, IoTHubError, IoTHubTransportProvider
from iothub_client import IoTHubClientResult, IoTHubMessageDispositionResult

CONNECTION_STRING = sys.argv[1] if len(sys.argv) > 1 else os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
PROTOCOL = IoTHubTransportProvider.AMQP
RECEIVE_CONTEXT = 0
WAIT_COUNT = 10
RECEIVED_COUNT = 0
RECEIVE_CALLBACKS = 0


def receive_message_callback(message, counter):
    global RECEIVE_CALLBACKS
    message_buffer = message.get_bytearray()
    size = len(message_buffer)
    print("Received Message [%d]:" % counter)
    print("    Data: <<<%s>>> & Size=%d" % (message_buffer[:size].decode('utf-8'), size))
    map_properties = message.properties()
    key_value_pair = map_properties.get_internals()
    print("    Properties: %s" % key_value_pair)
    print("    message_id: %s, correlation_id: %s" % (message.message_id, message.correlation_id))
    counter += 1
    RECEIVE_CALLBACKS += 1
    print("    Total calls received: %d" % RECEIVE_CALLBACKS)
    return IoTHubMessageDispositionResult.ACCEPTED


def print_last_message_time(client):
    try:
        last_message = client.get_last_message_receive_time()
        print("Last Message: %s" % time.asctime(time.localtime(last_message)))
        print("Actual time : %s" % time.asctime())
    except IoTHubClientError as iothub_client_error:
        if iothub_client_error.args[0].result == IoTHubClientResult.INDEFINITE_TIME:
            print("No message received")
        else:
            print(iothub_client_error)


def main():
    try:
        client = IoTHubClient(CONNECTION_STRING, PROTOCOL)
        client.set_message_callback(receive_message_callback, RECEIVE_CONTEXT)
        while True:
            print("IoTHubClient waiting for commands, press Ctrl-C to exit")
            status_counter = 0
            while status_counter <= WAIT_COUNT:
                status = client.get_send_status()
                print("Send status: %s" % status)
                time.sleep(10)
                status_counter += 1
            print_last_message_time(client)
    except IoTHubError as iothub_error:
        print("Unexpected error %s from IoTHub" % iothub_error)
        return
    except KeyboardInterrupt:
        print("IoTHubClient sample stopped")


if __name__ == '__main__':
    main()
