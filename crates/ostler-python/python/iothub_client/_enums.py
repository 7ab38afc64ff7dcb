"""The enums of `iothub_client`, with the numbers and the order of the originals (revival §1.3).

Must not know: what any value makes happen.
"""

from ostler_iothub.enums import enum

_MODULE = "iothub_client.iothub_client"


def _enum(name, *members):
    return enum(name, _MODULE, *members)


IoTHubTransportProvider = _enum("IoTHubTransportProvider", "HTTP", "AMQP", "MQTT", "AMQP_WS", "MQTT_WS")
IoTHubSecurityType = _enum("IoTHubSecurityType", "UNKNOWN", "SAS", "X509")
IoTHubClientStatus = _enum("IoTHubClientStatus", "IDLE", "BUSY")
IoTHubClientResult = _enum(
    "IoTHubClientResult", "OK", "INVALID_ARG", "ERROR", "INVALID_SIZE", "INDEFINITE_TIME"
)
IoTHubClientFileUploadResult = _enum("IoTHubClientFileUploadResult", "OK", "ERROR")
IoTHubClientConfirmationResult = _enum(
    "IoTHubClientConfirmationResult", "OK", "BECAUSE_DESTROY", "MESSAGE_TIMEOUT", "ERROR"
)
IoTHubMessageDispositionResult = _enum("IoTHubMessageDispositionResult", "ACCEPTED", "REJECTED", "ABANDONED")
IoTHubMessageContent = _enum("IoTHubMessageContent", "BYTEARRAY", "STRING", "UNKNOWN")
IoTHubMessageResult = _enum("IoTHubMessageResult", "OK", "INVALID_ARG", "INVALID_TYPE", "ERROR")
IoTHubMapResult = _enum(
    "IoTHubMapResult", "OK", "ERROR", "INVALIDARG", "KEYEXISTS", "KEYNOTFOUND", "FILTER_REJECT"
)
IoTHubTwinUpdateState = _enum("IoTHubTwinUpdateState", "COMPLETE", "PARTIAL")
IoTHubConnectionStatus = _enum("IoTHubConnectionStatus", "AUTHENTICATED", "UNAUTHENTICATED")
IoTHubClientConnectionStatusReason = _enum(
    "IoTHubClientConnectionStatusReason",
    "EXPIRED_SAS_TOKEN",
    "DEVICE_DISABLED",
    "BAD_CREDENTIAL",
    "RETRY_EXPIRED",
    "NO_NETWORK",
    "COMMUNICATION_ERROR",
    "CONNECTION_OK",
)
IoTHubClientRetryPolicy = _enum(
    "IoTHubClientRetryPolicy",
    "RETRY_NONE",
    "RETRY_IMMEDIATE",
    "RETRY_INTERVAL",
    "RETRY_LINEAR_BACKOFF",
    "RETRY_EXPONENTIAL_BACKOFF",
    "RETRY_EXPONENTIAL_BACKOFF_WITH_JITTER",
    "RETRY_RANDOM",
)
