"""A typed program of today on `iothub_client`; mypy reads it, nobody runs it."""

from typing import List, Optional

import iothub_client
from iothub_client import (
    DeviceMethodReturnValue,
    HttpProxyOptions,
    IoTHubClient,
    IoTHubClientConfirmationResult,
    IoTHubClientConnectionStatusReason,
    IoTHubClientError,
    IoTHubClientFileUploadResult,
    IoTHubClientResult,
    IoTHubClientRetryPolicy,
    IoTHubConnectionStatus,
    IoTHubMessage,
    IoTHubMessageDispositionResult,
    IoTHubMethodResponse,
    IoTHubModuleClient,
    IoTHubTransportProvider,
    IoTHubTwinUpdateState,
)
from iothub_client.iothub_client import IoTHubError


def confirmed(message: IoTHubMessage, result: IoTHubClientConfirmationResult, context: int) -> None:
    if result is not IoTHubClientConfirmationResult.OK:
        print("%s: %s" % (message.message_id, result), context + 1)


def received(message: IoTHubMessage, context: List[bytearray]) -> IoTHubMessageDispositionResult:
    context.append(message.get_bytearray())
    return IoTHubMessageDispositionResult.ACCEPTED


def called(name: str, payload: str, context: Optional[IoTHubClient]) -> Optional[DeviceMethodReturnValue]:
    if name != "reboot":
        return None
    value = DeviceMethodReturnValue()
    value.response, value.status = payload or "{}", 200
    return value


def changed(state: IoTHubTwinUpdateState, payload: str, context: IoTHubClient) -> None:
    context.send_reported_state(payload, len(payload), lambda status, _: print(status + 1), None)


def status(
    status: IoTHubConnectionStatus, reason: IoTHubClientConnectionStatusReason, context: IoTHubClient
) -> None:
    print("%s %d" % (status, reason))


def uploaded(result: IoTHubClientFileUploadResult, context: int) -> None:
    print(str(result) == "OK")


def answered(response: IoTHubMethodResponse, context: None) -> None:
    print(response.responseStatus + 1, response.responsePayload.upper())


def device(connection_string: str) -> IoTHubClient:
    client = IoTHubClient(connection_string, IoTHubTransportProvider.MQTT)
    client.set_option("messageTimeout", 10000)
    client.set_option("proxy_data", HttpProxyOptions("proxy.example.net", 3128))
    client.set_retry_policy(IoTHubClientRetryPolicy.RETRY_INTERVAL, 100)
    client.set_connection_status_callback(status, client)
    client.set_device_twin_callback(changed, client)
    client.set_device_method_callback(called, client)
    client.set_message_callback(received, [])
    message = IoTHubMessage(bytearray("x", "utf8"))
    message.properties().add("alert", "true")
    try:
        client.send_event_async(message, confirmed, 7)
        client.upload_blob_async("name", "content", 7, uploaded, 0)
        print(client.get_last_message_receive_time() + 1)
    except IoTHubClientError as error:
        if error.args[0].result == IoTHubClientResult.INDEFINITE_TIME:
            print(iothub_client.__version__)
    except IoTHubError as error:
        print(error)
    return client


def module() -> None:
    client = IoTHubModuleClient()
    client.create_from_environment(IoTHubTransportProvider.MQTT)
    client.set_message_callback("input1", received, [])
    client.send_event_async("output1", IoTHubMessage("x"), confirmed, 1)
    client.invoke_method_async("device", "module", "turn", "{}", 30, answered, None)
