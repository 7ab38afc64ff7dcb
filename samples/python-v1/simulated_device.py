# Telemetry of a weather station, with a temperature alert as a property; the interval is set by a method.
#
#   python simulated_device.py "<device connection string>" [-p http|mqtt|mqtt_ws|amqp|amqp_ws] [-n messages]

import getopt
import os
import random
import sys
import time

from iothub_client import *

MESSAGE_TIMEOUT = 10000
INTERVAL = 1
AVG_WIND_SPEED = 10.0
MIN_TEMPERATURE = 20.0
MIN_HUMIDITY = 60.0
MSG_TXT = "{\"deviceId\": \"weather\",\"windSpeed\": %.2f,\"temperature\": %.2f,\"humidity\": %.2f}"

SEND_CALLBACKS = 0
METHOD_CALLBACKS = 0


def get_option(argv):
    text, protocol, count = os.environ.get("IOTHUB_DEVICE_CONNECTION_STRING"), IoTHubTransportProvider.MQTT, 0
    if argv and not argv[0].startswith("-"):
        text, argv = argv[0], argv[1:]
    opts, args = getopt.getopt(argv, "p:n:")
    for opt, value in opts:
        if opt == "-p":
            if not hasattr(IoTHubTransportProvider, value.upper()):
                raise getopt.GetoptError("%s is not a protocol here" % value)
            protocol = getattr(IoTHubTransportProvider, value.upper())
        elif opt == "-n":
            count = int(value)
    if not text:
        raise getopt.GetoptError("the connection string is missing")
    return text, protocol, count


def send_confirmation_callback(message, result, user_context):
    global SEND_CALLBACKS
    SEND_CALLBACKS += 1
    print("Confirmation[%d] received for message with result = %s" % (user_context, result))
    map_properties = message.properties()
    print("    message_id: %s" % message.message_id)
    print("    correlation_id: %s" % message.correlation_id)
    print("    Properties: %s" % map_properties.get_internals())
    print("    Total calls confirmed: %d" % SEND_CALLBACKS)


def connection_status_callback(result, reason, user_context):
    print("Connection status changed [%d] with:" % user_context)
    print("    reason: %d" % reason)
    print("    result: %s" % result)


def device_method_callback(method_name, payload, user_context):
    global METHOD_CALLBACKS, INTERVAL
    METHOD_CALLBACKS += 1
    value = DeviceMethodReturnValue()
    if method_name == "SetTelemetryInterval":
        try:
            INTERVAL = int(payload)
            value.response = "{ \"Response\": \"Executed direct method %s\" }" % method_name
            value.status = 200
        except ValueError:
            value.response = "{ \"Response\": \"Invalid parameter\" }"
            value.status = 400
    else:
        value.response = "{ \"Response\": \"Direct method not defined: %s\" }" % method_name
        value.status = 404
    return value


def iothub_client_init(connection_string, protocol):
    client = IoTHubClient(connection_string, protocol)
    client.set_option("product_info", "SimulatedWeather-Python")
    if client.protocol == IoTHubTransportProvider.HTTP:
        client.set_option("timeout", 241000)
        client.set_option("MinimumPollingTime", 9)
    client.set_option("messageTimeout", MESSAGE_TIMEOUT)
    if client.protocol == IoTHubTransportProvider.MQTT:
        client.set_option("logtrace", 0)
    if client.protocol == IoTHubTransportProvider.MQTT or client.protocol == IoTHubTransportProvider.MQTT_WS:
        client.set_connection_status_callback(connection_status_callback, 0)
        client.set_device_method_callback(device_method_callback, 0)
        retry_policy = IoTHubClientRetryPolicy.RETRY_INTERVAL
        retry_interval = 100
        client.set_retry_policy(retry_policy, retry_interval)
        print("SetRetryPolicy to: retryPolicy = %d" % client.get_retry_policy().retryPolicy)
    return client


def main(connection_string, protocol, count):
    try:
        client = iothub_client_init(connection_string, protocol)
        print("Sending over %s, press Ctrl-C to exit" % client.protocol)
        message_counter = 0
        while count == 0 or message_counter < count:
            temperature = MIN_TEMPERATURE + (random.random() * 10)
            humidity = MIN_HUMIDITY + (random.random() * 20)
            msg_txt_formatted = MSG_TXT % (AVG_WIND_SPEED + (random.random() * 4 + 2), temperature, humidity)
            # messages can be encoded as string or bytearray
            if (message_counter & 1) == 1:
                message = IoTHubMessage(bytearray(msg_txt_formatted, 'utf8'))
            else:
                message = IoTHubMessage(msg_txt_formatted)
            message.message_id = "message_%d" % message_counter
            message.correlation_id = "correlation_%d" % message_counter
            prop_map = message.properties()
            prop_map.add("temperatureAlert", 'true' if temperature > 28 else 'false')
            client.send_event_async(message, send_confirmation_callback, message_counter)
            print("IoTHubClient.send_event_async accepted message [%d] for transmission" % message_counter)
            message_counter += 1
            time.sleep(INTERVAL)
        while client.get_send_status() != IoTHubClientStatus.IDLE:
            time.sleep(0.1)
    except IoTHubError as iothub_error:
        print("Unexpected error %s from IoTHub" % iothub_error)
        return
    except KeyboardInterrupt:
        print("IoTHubClient sample stopped")


if __name__ == '__main__':
    try:
        (CONNECTION_STRING, PROTOCOL, COUNT) = get_option(sys.argv[1:])
    except getopt.GetoptError as option_error:
        print(option_error)
        sys.exit(1)
    main(CONNECTION_STRING, PROTOCOL, COUNT)
