"""iothub_client for Python (Ostler)"""

from ostler_iothub import RETIRED_VERSION as __version__
from ostler_iothub import __version__ as __revival_version__

from ._clients import IoTHubClient, IoTHubDeviceClient, IoTHubModuleClient
from ._enums import (
    IoTHubClientConfirmationResult,
    IoTHubClientConnectionStatusReason,
    IoTHubClientFileUploadResult,
    IoTHubClientResult,
    IoTHubClientRetryPolicy,
    IoTHubClientStatus,
    IoTHubConnectionStatus,
    IoTHubMapResult,
    IoTHubMessageContent,
    IoTHubMessageDispositionResult,
    IoTHubMessageResult,
    IoTHubSecurityType,
    IoTHubTransportProvider,
    IoTHubTwinUpdateState,
)
from ._errors import (
    IoTHubClientError,
    IoTHubClientErrorArg,
    IoTHubError,
    IoTHubMapError,
    IoTHubMapErrorArg,
    IoTHubMessageError,
    IoTHubMessageErrorArg,
)
from ._messages import IoTHubMap, IoTHubMessage, IoTHubMessageDiagnosticPropertyData
from ._values import (
    DeviceMethodReturnValue,
    GetRetryPolicyReturnValue,
    HttpProxyOptions,
    IoTHubConfig,
    IoTHubMethodResponse,
    IoTHubTransport,
)

__all__ = [
    "DeviceMethodReturnValue",
    "GetRetryPolicyReturnValue",
    "HttpProxyOptions",
    "IoTHubClient",
    "IoTHubClientConfirmationResult",
    "IoTHubClientConnectionStatusReason",
    "IoTHubClientError",
    "IoTHubClientErrorArg",
    "IoTHubClientFileUploadResult",
    "IoTHubClientResult",
    "IoTHubClientRetryPolicy",
    "IoTHubClientStatus",
    "IoTHubConfig",
    "IoTHubConnectionStatus",
    "IoTHubDeviceClient",
    "IoTHubError",
    "IoTHubMap",
    "IoTHubMapError",
    "IoTHubMapErrorArg",
    "IoTHubMapResult",
    "IoTHubMessage",
    "IoTHubMessageContent",
    "IoTHubMessageDiagnosticPropertyData",
    "IoTHubMessageDispositionResult",
    "IoTHubMessageError",
    "IoTHubMessageErrorArg",
    "IoTHubMessageResult",
    "IoTHubMethodResponse",
    "IoTHubModuleClient",
    "IoTHubSecurityType",
    "IoTHubTransport",
    "IoTHubTransportProvider",
    "IoTHubTwinUpdateState",
]
