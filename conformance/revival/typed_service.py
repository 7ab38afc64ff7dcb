"""A typed program of today on `iothub_service_client`; mypy reads it, nobody runs it."""

from typing import Any, Dict, List

import iothub_service_client
from iothub_service_client import (
    IoTHubDeviceConfiguration,
    IoTHubDeviceConfigurationManager,
    IoTHubDeviceMethod,
    IoTHubDeviceTwin,
    IoTHubMap,
    IoTHubMessage,
    IoTHubMessaging,
    IoTHubMessagingResult,
    IoTHubRegistryManager,
    IoTHubRegistryManagerAuthMethod,
    IoTHubRegistryManagerError,
    IoTHubRegistryManagerResult,
    IoTHubServiceClientAuth,
)
from iothub_service_client.iothub_service_client import IoTHubError


def registry(connection_string: str) -> List[str]:
    manager = IoTHubRegistryManager(IoTHubServiceClientAuth(connection_string))
    sas = IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY
    try:
        device = manager.create_device("pump-7", "", None, sas)
    except IoTHubRegistryManagerError as error:
        if error.args[0].result is IoTHubRegistryManagerResult.DEVICE_EXIST:
            device = manager.get_device("pump-7")
        raise
    print("%s %d" % (device.status, device.status), device.primaryKey or "", sas.name, sas.names["X509_THUMBPRINT"])
    return [found.deviceId for found in manager.get_device_list(manager.get_statistics().totalDeviceCount)]


def twins(connection_string: bytes) -> int:
    text = IoTHubDeviceTwin(connection_string).update_twin("pump-7", '{"tags":{}}')
    found = text.find("rebootTime")
    answer = IoTHubDeviceMethod(connection_string).invoke("pump-7", "module", "reboot", "{}", 60)
    return found + answer.status + len(answer.payload)


def messages(connection_string: str) -> None:
    def sent(context: int, result: IoTHubMessagingResult) -> None:
        print(context + 1, "%s" % result)

    def feedback(context: str, user_id: str, lock_token: str, records: List[Dict[str, Any]]) -> None:
        print(context, records[0]["originalMessageId"])

    messaging = IoTHubMessaging(connection_string)
    messaging.open(print, None)
    messaging.set_feedback_message_callback(feedback, "context")
    message = IoTHubMessage(bytearray("text", "utf8"))
    message.message_id = b"id"
    properties: IoTHubMap = message.properties()
    properties.add("iothub-ack", "full")
    messaging.send_async("pump-7", message, sent, 5)
    messaging.close()


def configurations(connection_string: str) -> str:
    configuration = IoTHubDeviceConfiguration()
    configuration.labels["floor"] = "2"
    configuration.content.deviceContent = '{"properties.desired.interval": 5}'
    try:
        configuration = IoTHubDeviceConfigurationManager(connection_string).add_configuration(configuration)
    except IoTHubError as error:
        print("{0}".format(error))
    return iothub_service_client.__version__ + (configuration.lastUpdatedTimeUtc or "")
