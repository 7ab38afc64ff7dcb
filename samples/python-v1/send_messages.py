# Sends messages to a device, some as bytes and some as text, and prints what became of them.
#
#     python send_messages.py "<connection string of the hub>" <device id>
#
# Its other half is receive_messages.py.

import sys
import time

from iothub_service_client import IoTHubError, IoTHubMessage, IoTHubMessaging

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"

MESSAGES = 3
MSG_TXT = "{\"service client sent a message\": %d}"
WAIT_SECONDS = 30

FEEDBACK = []


def open_complete_callback(context):
    print("open_complete_callback called with context: {0}".format(context))


def send_complete_callback(context, messaging_result):
    print("send_complete_callback called with context: {0}, result: {1}".format(context, messaging_result))


def feedback_received_callback(context, user_id, lock_token, feedback_records):
    for record in feedback_records:
        print("feedback for {0}: {1} ({2})".format(
            record["originalMessageId"], record["description"], record["statusCode"]))
        FEEDBACK.append(record)


def main():
    try:
        messaging = IoTHubMessaging(CONNECTION_STRING)
        messaging.set_feedback_message_callback(feedback_received_callback, 3)
        messaging.open(open_complete_callback, 1)

        for number in range(0, MESSAGES):
            text = MSG_TXT % number
            message = IoTHubMessage(bytearray(text, "utf8") if number % 2 == 0 else text)
            message.message_id = "message_%d" % number
            message.correlation_id = "correlation_%d" % number
            message.properties().add("number", "%d" % number)
            message.properties().add("iothub-ack", "full")
            messaging.send_async(DEVICE_ID, message, send_complete_callback, number)

        waited = 0
        while len(FEEDBACK) < MESSAGES and waited < WAIT_SECONDS:
            time.sleep(1)
            waited += 1

        messaging.close()
        print("%d of %d messages have been told of" % (len(FEEDBACK), MESSAGES))
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
