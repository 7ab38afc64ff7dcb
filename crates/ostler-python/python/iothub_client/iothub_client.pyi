"""Types of the retired package `iothub_client`, as it is revived."""

from typing import Any, Callable, ClassVar, Dict, Optional, Type, TypeVar, Union, overload

__version__: str

# str, or bytes in UTF-8.
_Text = Union[str, bytes]
_Context = TypeVar("_Context")
_E = TypeVar("_E", bound="_Enum")

class _Enum(int):
    names: ClassVar[Dict[str, Any]]
    values: ClassVar[Dict[int, Any]]
    def __new__(cls: Type[_E], value: int = ..., /) -> _E: ...
    @property
    def name(self) -> str: ...

class IoTHubTransportProvider(_Enum):
    HTTP: ClassVar[IoTHubTransportProvider]
    AMQP: ClassVar[IoTHubTransportProvider]
    MQTT: ClassVar[IoTHubTransportProvider]
    AMQP_WS: ClassVar[IoTHubTransportProvider]
    MQTT_WS: ClassVar[IoTHubTransportProvider]

class IoTHubSecurityType(_Enum):
    UNKNOWN: ClassVar[IoTHubSecurityType]
    SAS: ClassVar[IoTHubSecurityType]
    X509: ClassVar[IoTHubSecurityType]

class IoTHubClientStatus(_Enum):
    IDLE: ClassVar[IoTHubClientStatus]
    BUSY: ClassVar[IoTHubClientStatus]

class IoTHubClientResult(_Enum):
    OK: ClassVar[IoTHubClientResult]
    INVALID_ARG: ClassVar[IoTHubClientResult]
    ERROR: ClassVar[IoTHubClientResult]
    INVALID_SIZE: ClassVar[IoTHubClientResult]
    INDEFINITE_TIME: ClassVar[IoTHubClientResult]

class IoTHubClientFileUploadResult(_Enum):
    OK: ClassVar[IoTHubClientFileUploadResult]
    ERROR: ClassVar[IoTHubClientFileUploadResult]

class IoTHubClientConfirmationResult(_Enum):
    OK: ClassVar[IoTHubClientConfirmationResult]
    BECAUSE_DESTROY: ClassVar[IoTHubClientConfirmationResult]
    MESSAGE_TIMEOUT: ClassVar[IoTHubClientConfirmationResult]
    ERROR: ClassVar[IoTHubClientConfirmationResult]

class IoTHubMessageDispositionResult(_Enum):
    ACCEPTED: ClassVar[IoTHubMessageDispositionResult]
    REJECTED: ClassVar[IoTHubMessageDispositionResult]
    ABANDONED: ClassVar[IoTHubMessageDispositionResult]

class IoTHubMessageContent(_Enum):
    BYTEARRAY: ClassVar[IoTHubMessageContent]
    STRING: ClassVar[IoTHubMessageContent]
    UNKNOWN: ClassVar[IoTHubMessageContent]

class IoTHubMessageResult(_Enum):
    OK: ClassVar[IoTHubMessageResult]
    INVALID_ARG: ClassVar[IoTHubMessageResult]
    INVALID_TYPE: ClassVar[IoTHubMessageResult]
    ERROR: ClassVar[IoTHubMessageResult]

class IoTHubMapResult(_Enum):
    OK: ClassVar[IoTHubMapResult]
    ERROR: ClassVar[IoTHubMapResult]
    INVALIDARG: ClassVar[IoTHubMapResult]
    KEYEXISTS: ClassVar[IoTHubMapResult]
    KEYNOTFOUND: ClassVar[IoTHubMapResult]
    FILTER_REJECT: ClassVar[IoTHubMapResult]

class IoTHubTwinUpdateState(_Enum):
    COMPLETE: ClassVar[IoTHubTwinUpdateState]
    PARTIAL: ClassVar[IoTHubTwinUpdateState]

class IoTHubConnectionStatus(_Enum):
    AUTHENTICATED: ClassVar[IoTHubConnectionStatus]
    UNAUTHENTICATED: ClassVar[IoTHubConnectionStatus]

class IoTHubClientConnectionStatusReason(_Enum):
    EXPIRED_SAS_TOKEN: ClassVar[IoTHubClientConnectionStatusReason]
    DEVICE_DISABLED: ClassVar[IoTHubClientConnectionStatusReason]
    BAD_CREDENTIAL: ClassVar[IoTHubClientConnectionStatusReason]
    RETRY_EXPIRED: ClassVar[IoTHubClientConnectionStatusReason]
    NO_NETWORK: ClassVar[IoTHubClientConnectionStatusReason]
    COMMUNICATION_ERROR: ClassVar[IoTHubClientConnectionStatusReason]
    CONNECTION_OK: ClassVar[IoTHubClientConnectionStatusReason]

class IoTHubClientRetryPolicy(_Enum):
    RETRY_NONE: ClassVar[IoTHubClientRetryPolicy]
    RETRY_IMMEDIATE: ClassVar[IoTHubClientRetryPolicy]
    RETRY_INTERVAL: ClassVar[IoTHubClientRetryPolicy]
    RETRY_LINEAR_BACKOFF: ClassVar[IoTHubClientRetryPolicy]
    RETRY_EXPONENTIAL_BACKOFF: ClassVar[IoTHubClientRetryPolicy]
    RETRY_EXPONENTIAL_BACKOFF_WITH_JITTER: ClassVar[IoTHubClientRetryPolicy]
    RETRY_RANDOM: ClassVar[IoTHubClientRetryPolicy]

class IoTHubError(Exception): ...
class IoTHubMapError(IoTHubError): ...
class IoTHubMessageError(IoTHubError): ...
class IoTHubClientError(IoTHubError): ...

class _ErrorArg:
    # The status the hub refused with, and what it said; new, and None where there is none.
    http_status: Optional[int]
    reason: Optional[str]
    @property
    def func(self) -> str: ...

class IoTHubMapErrorArg(_ErrorArg):
    def __init__(self, func: str, result: IoTHubMapResult) -> None: ...
    @property
    def result(self) -> IoTHubMapResult: ...

class IoTHubMessageErrorArg(_ErrorArg):
    def __init__(self, func: str, result: IoTHubMessageResult) -> None: ...
    @property
    def result(self) -> IoTHubMessageResult: ...

class IoTHubClientErrorArg(_ErrorArg):
    def __init__(self, func: str, result: IoTHubClientResult) -> None: ...
    @property
    def result(self) -> IoTHubClientResult: ...

class IoTHubMap:
    def __init__(self, filter_function: Callable[[str, str], int] = ..., /) -> None: ...
    def add(self, key: _Text, value: _Text, /) -> None: ...
    def add_or_update(self, key: _Text, value: _Text, /) -> None: ...
    def delete(self, key: _Text, /) -> None: ...
    def contains_key(self, key: _Text, /) -> bool: ...
    def contains_value(self, value: _Text, /) -> bool: ...
    def get_value_from_key(self, key: _Text, /) -> str: ...
    def get_internals(self) -> Dict[str, str]: ...

class IoTHubMessageDiagnosticPropertyData:
    def __init__(self, diagnostic_id: _Text, creation_time_utc: _Text, /) -> None: ...
    def get_diagnostic_id(self) -> str: ...
    def get_diagnostic_time_utc(self) -> str: ...

class IoTHubMessage:
    # Text, or None; bytes may be assigned too.
    message_id: Optional[str]
    correlation_id: Optional[str]
    def __init__(self, source: Union[str, bytes, bytearray], /) -> None: ...
    def get_bytearray(self) -> bytearray: ...
    def get_string(self) -> Optional[str]: ...
    def get_content_type(self) -> IoTHubMessageContent: ...
    def properties(self) -> IoTHubMap: ...
    def set_content_type_system_property(self, value: _Text, /) -> IoTHubMessageResult: ...
    def get_content_type_system_property(self) -> Optional[str]: ...
    def set_content_encoding_system_property(self, value: _Text, /) -> IoTHubMessageResult: ...
    def get_content_encoding_system_property(self) -> Optional[str]: ...
    def set_diagnostic_property_data(self, data: IoTHubMessageDiagnosticPropertyData, /) -> IoTHubMessageResult: ...
    def get_diagnostic_property_data(self) -> Optional[IoTHubMessageDiagnosticPropertyData]: ...
    @property
    def input_name(self) -> Optional[str]: ...
    @property
    def output_name(self) -> Optional[str]: ...
    @property
    def connection_device_id(self) -> Optional[str]: ...
    @property
    def connection_module_id(self) -> Optional[str]: ...

class IoTHubTransport:
    def __init__(self, provider: IoTHubTransportProvider, hub_name: _Text, hub_suffix: _Text, /) -> None: ...

class IoTHubConfig:
    def __init__(
        self,
        provider: IoTHubTransportProvider,
        device_id: _Text,
        device_key: _Text,
        sas_token: _Text,
        hub_name: _Text,
        hub_suffix: _Text,
        protocol_gateway_host: _Text,
        /,
    ) -> None: ...

class HttpProxyOptions:
    host_address: str
    port: int
    username: str
    password: str
    def __init__(self, host_address: _Text, port: int = ..., username: _Text = ..., password: _Text = ..., /) -> None: ...

class DeviceMethodReturnValue:
    response: str
    status: int
    def __init__(self) -> None: ...

class GetRetryPolicyReturnValue:
    @property
    def retryPolicy(self) -> IoTHubClientRetryPolicy: ...
    @property
    def retryTimeoutLimitInSeconds(self) -> int: ...

class IoTHubMethodResponse:
    @property
    def result(self) -> int: ...
    @property
    def responseStatus(self) -> int: ...
    @property
    def responsePayload(self) -> str: ...

_Confirmed = Callable[[IoTHubMessage, IoTHubClientConfirmationResult, _Context], object]
_Received = Callable[[IoTHubMessage, _Context], IoTHubMessageDispositionResult]
_StatusChanged = Callable[[IoTHubConnectionStatus, IoTHubClientConnectionStatusReason, _Context], object]
_TwinChanged = Callable[[IoTHubTwinUpdateState, str, _Context], object]
_Reported = Callable[[int, _Context], object]
_Called = Callable[[str, str, _Context], Optional[DeviceMethodReturnValue]]
_CalledEx = Callable[[str, str, int, _Context], object]
_Uploaded = Callable[[IoTHubClientFileUploadResult, _Context], object]
_Answered = Callable[[IoTHubMethodResponse, _Context], object]

class _Client:
    @property
    def protocol(self) -> IoTHubTransportProvider: ...
    @overload
    def send_event_async(self, message: IoTHubMessage, callback: _Confirmed[_Context], context: _Context, /) -> None: ...
    @overload
    def send_event_async(
        self, output: _Text, message: IoTHubMessage, callback: _Confirmed[_Context], context: _Context, /
    ) -> None: ...
    @overload
    def set_message_callback(self, callback: _Received[_Context], context: _Context, /) -> None: ...
    @overload
    def set_message_callback(self, input_name: _Text, callback: _Received[_Context], context: _Context, /) -> None: ...
    def get_send_status(self) -> IoTHubClientStatus: ...
    def get_last_message_receive_time(self) -> int: ...
    def set_connection_status_callback(self, callback: _StatusChanged[_Context], context: _Context, /) -> None: ...
    def set_retry_policy(self, policy: IoTHubClientRetryPolicy, limit_secs: int, /) -> None: ...
    def get_retry_policy(self) -> GetRetryPolicyReturnValue: ...
    def set_option(self, name: _Text, value: Union[int, str, bytes, HttpProxyOptions], /) -> None: ...
    def send_reported_state(
        self, reported_state: _Text, size: int, callback: _Reported[_Context], context: _Context, /
    ) -> None: ...

class _Device(_Client):
    @overload
    def __init__(self, connection_string: _Text, provider: IoTHubTransportProvider, /) -> None: ...
    @overload
    def __init__(self, transport: IoTHubTransport, config: IoTHubConfig, /) -> None: ...
    @overload
    def __init__(
        self, iothub_uri: _Text, device_id: _Text, security: IoTHubSecurityType, provider: IoTHubTransportProvider, /
    ) -> None: ...
    def set_device_twin_callback(self, callback: _TwinChanged[_Context], context: _Context, /) -> None: ...
    def set_device_method_callback(self, callback: _Called[_Context], context: _Context, /) -> None: ...
    def device_method_response(self, method_id: int, response: _Text, size: int, status: int, /) -> None: ...
    def upload_blob_async(
        self,
        name: _Text,
        source: Union[str, bytes, bytearray],
        size: int,
        callback: _Uploaded[_Context],
        context: _Context,
        /,
    ) -> None: ...

class IoTHubClient(_Device):
    def set_device_method_callback_ex(self, callback: _CalledEx[_Context], context: _Context, /) -> None: ...

class IoTHubDeviceClient(_Device): ...

class IoTHubModuleClient(_Client):
    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(self, connection_string: _Text, provider: IoTHubTransportProvider, /) -> None: ...
    @overload
    def __init__(self, transport: IoTHubTransport, config: IoTHubConfig, /) -> None: ...
    def create_from_environment(self, provider: IoTHubTransportProvider, /) -> None: ...
    def set_module_twin_callback(self, callback: _TwinChanged[_Context], context: _Context, /) -> None: ...
    def set_module_method_callback(self, callback: _Called[_Context], context: _Context, /) -> None: ...
    @overload
    def invoke_method_async(
        self,
        device_id: _Text,
        method: _Text,
        payload: _Text,
        timeout_secs: int,
        callback: _Answered[_Context],
        context: _Context,
        /,
    ) -> None: ...
    @overload
    def invoke_method_async(
        self,
        device_id: _Text,
        module_id: _Text,
        method: _Text,
        payload: _Text,
        timeout_secs: int,
        callback: _Answered[_Context],
        context: _Context,
        /,
    ) -> None: ...
