"""iothub_service_client for Python (Ostler): registry, twins, methods, messages and configurations of an IoT hub."""

import json as _json
import weakref as _weakref

from ostler_iothub import RETIRED_VERSION, _native, warn_of_unusable_trust
from ostler_iothub.arguments import a, anything, callback, integer, optional_text, takes, takes_any, text, unsigned
from ostler_iothub.courier import Courier
from ostler_iothub.enums import enum
from ostler_iothub.errors import ErrorArg, error, error_arg
from ostler_iothub.maps import MapBase
from ostler_iothub.messages import MessageBase
from ostler_iothub.objects import Native, Result

__version__ = RETIRED_VERSION

# ---------------------------------------------------------------- enums (revival §1.3)

IoTHubMapResult = enum(
    "IoTHubMapResult", __name__, "OK", "ERROR", "INVALIDARG", "KEYEXISTS", "KEYNOTFOUND", "FILTER_REJECT"
)
IoTHubMessageResult = enum("IoTHubMessageResult", __name__, "OK", "INVALID_ARG", "INVALID_TYPE", "ERROR")
IoTHubMessageDispositionResult = enum(
    "IoTHubMessageDispositionResult", __name__, "ACCEPTED", "REJECTED", "ABANDONED"
)
IoTHubMessageContent = enum("IoTHubMessageContent", __name__, "BYTEARRAY", "STRING", "UNKNOWN")
IoTHubRegistryManagerResult = enum(
    "IoTHubRegistryManagerResult",
    __name__,
    "OK",
    "INVALID_ARG",
    "ERROR",
    "JSON_ERROR",
    "HTTPAPI_ERROR",
    "HTTP_STATUS_ERROR",
    "DEVICE_EXIST",
    "DEVICE_NOT_EXIST",
    "CALLBACK_NOT_SET",
)
IoTHubRegistryManagerAuthMethod = enum(
    "IoTHubRegistryManagerAuthMethod",
    __name__,
    "SHARED_PRIVATE_KEY",
    "X509_THUMBPRINT",
    "X509_CERTIFICATE_AUTHORITY",
)
IoTHubMessagingResult = enum(
    "IoTHubMessagingResult",
    __name__,
    "OK",
    "INVALID_ARG",
    "ERROR",
    "INVALID_JSON",
    "DEVICE_EXIST",
    "CALLBACK_NOT_SET",
)
IoTHubDeviceConnectionState = enum("IoTHubDeviceConnectionState", __name__, "CONNECTED", "DISCONNECTED")
IoTHubDeviceStatus = enum("IoTHubDeviceStatus", __name__, "ENABLED", "DISABLED")
IoTHubFeedbackStatusCode = enum(
    "IoTHubFeedbackStatusCode", __name__, "SUCCESS", "EXPIRED", "DELIVER_COUNT_EXCEEDED", "REJECTED", "UNKNOWN"
)
IoTHubDeviceMethodResult = enum(
    "IoTHubDeviceMethodResult", __name__, "OK", "INVALID_ARG", "ERROR", "HTTPAPI_ERROR"
)
IoTHubDeviceTwinResult = enum("IoTHubDeviceTwinResult", __name__, "OK", "INVALID_ARG", "ERROR", "HTTPAPI_ERROR")

# ---------------------------------------------------------------- exceptions (revival §1.4)

IoTHubError = error("IoTHubError", Exception, __name__, "The base of this module's exceptions.")
IoTHubMapError = error("IoTHubMapError", IoTHubError, __name__)
IoTHubMessageError = error("IoTHubMessageError", IoTHubError, __name__)
IoTHubServiceClientAuthError = error("IoTHubServiceClientAuthError", IoTHubError, __name__)
IoTHubRegistryManagerError = error("IoTHubRegistryManagerError", IoTHubError, __name__)
IoTHubMessagingError = error("IoTHubMessagingError", IoTHubError, __name__)
IoTHubDeviceMethodError = error("IoTHubDeviceMethodError", IoTHubError, __name__)
IoTHubDeviceTwinError = error("IoTHubDeviceTwinError", IoTHubError, __name__)
IoTHubDeviceConfigurationError = error("IoTHubDeviceConfigurationError", IoTHubError, __name__)

IoTHubMapErrorArg = error_arg(IoTHubMapError, "IoTHubMap", "IoTHubMapResult")
IoTHubMessageErrorArg = error_arg(IoTHubMessageError, "IoTHubMessage", "IoTHubMessageResult")
IoTHubRegistryManagerErrorArg = error_arg(
    IoTHubRegistryManagerError, "IoTHubRegistryManager", "IoTHubRegistryManagerResult"
)
IoTHubMessagingErrorArg = error_arg(
    IoTHubMessagingError, "IoTHubMessaging", "IoTHubMessagingResult", {"INVALID_JSON": "INVALID_ERROR"}
)
IoTHubDeviceMethodErrorArg = error_arg(IoTHubDeviceMethodError, "IoTHubDeviceMethod", "IoTHubDeviceMethodResult")
# The class word is not the class's name, and never was.
IoTHubDeviceTwinErrorArg = error_arg(IoTHubDeviceTwinError, "IoTHubTwin", "IoTHubDeviceTwinResult")


class IoTHubServiceClientAuthErrorArg(ErrorArg):
    """What a raised IoTHubServiceClientAuthError carries; it knows no result."""

    exception = "IoTHubServiceClientAuthError"
    owner = "IoTHubServiceClientAuth"

    @takes(text)
    def __init__(self, func):
        super().__init__(func, "ERROR")

    @property
    def result(self):
        raise AttributeError("result")

    def __str__(self):
        return f"{self.owner}.{self.func}, {self.exception}: Service Client Authentication Handle is NULL."


class IoTHubDeviceConfigurationErrorArg(ErrorArg):
    """What a raised IoTHubDeviceConfigurationError carries. Its result is a word: there never was an enum for it."""

    exception = "IoTHubDeviceConfigurationError"
    owner = "IoTHubDeviceConfigurationManager"
    enum_name = "IoTHubDeviceConfigurationResult"

    @property
    def result(self):
        raise TypeError("No Python class registered for C++ class IOTHUB_DEVICE_CONFIGURATION_RESULT")


# ---------------------------------------------------------------- messages (revival §2.3, §2.4)


class IoTHubMap(MapBase):
    """Application properties of a message."""

    _error = IoTHubMapError
    _error_arg = IoTHubMapErrorArg
    _results = IoTHubMapResult


class IoTHubMessage(MessageBase):
    """A message to a device, made of a bytearray or of text."""

    _map = IoTHubMap
    _content = IoTHubMessageContent
    _results = IoTHubMessageResult
    _error = IoTHubMessageError
    _error_arg = IoTHubMessageErrorArg


# ---------------------------------------------------------------- sign-in (revival §3.1)


def _open_service(connection_string, device_may_sign_in=False):
    """The native client of a connection string; None when it is malformed. No network."""
    warn_of_unusable_trust(stacklevel=5)
    if device_may_sign_in and "SharedAccessKeyName=" not in connection_string:
        # The C library signed in under the name of the device here; no hub ever let that pass.
        connection_string = connection_string.replace("DeviceId=", "SharedAccessKeyName=", 1)
    try:
        return _native.Service(connection_string)
    except _native.Failure:
        return None


class IoTHubServiceClientAuth(Native):
    """A connection string, checked once; any number of clients may be made of it."""

    @takes(text)
    def __init__(self, connection_string):
        if _open_service(connection_string, device_may_sign_in=True) is None:
            raise IoTHubServiceClientAuthError(IoTHubServiceClientAuthErrorArg("IoTHubServiceClientAuth"))
        self._connection_string = connection_string


class _ServiceClient(Native):
    """What all clients do alike. A subclass names its exception and the word of a malformed connection string."""

    _error = None
    _error_arg = None
    _malformed = None
    _device_may_sign_in = False

    @takes_any([text], [a(IoTHubServiceClientAuth)])
    def __init__(self, connection):
        if isinstance(connection, IoTHubServiceClientAuth):
            connection = connection._connection_string
        self._connection_string = connection
        self._service = _open_service(connection, self._device_may_sign_in)
        if self._service is None:
            raise self._failed(self._constructor(), self._malformed)

    @classmethod
    def _constructor(cls):
        return next(base.__name__ for base in cls.__mro__ if base.__module__ == __name__)

    @classmethod
    def _failed(cls, function, result):
        return cls._error(cls._error_arg(function, result))

    def _call(self, function, operation, *args):
        """Calls the native client; a failure becomes this class's exception, without the native one behind it."""
        try:
            return operation(*args)
        except _native.Failure as failure:
            kind, status, reason = failure.args
        except RuntimeError as closing:
            kind, status, reason = "stopped", 0, str(closing)
        raised = self._failed(function, self._result_of(function, kind, status))
        # For those who look closer; the text of the exception is what it always was.
        raised.args[0].http_status = status or None
        raised.args[0].reason = reason
        raise raised

    @staticmethod
    def _result_of(function, kind, status):
        raise NotImplementedError


# ---------------------------------------------------------------- registry (revival §3.2)


class IoTHubDeviceCapabilities(Native):
    """What a device is allowed to be."""

    @takes()
    def __init__(self):
        self.iot_edge = False


class IoTHubDevice(Result):
    """A device as the registry has it."""

    FIELDS = (
        "deviceId",
        "primaryKey",
        "secondaryKey",
        "generationId",
        "eTag",
        "connectionState",
        "connectionStateUpdatedTime",
        "status",
        "statusReason",
        "statusUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "isManaged",
        "configuration",
        "deviceProperties",
        "serviceProperties",
        "authMethod",
    )


class IoTHubModule(Result):
    """A module as the registry has it."""

    FIELDS = (
        "moduleId",
        "deviceId",
        "primaryKey",
        "secondaryKey",
        "generationId",
        "eTag",
        "connectionState",
        "connectionStateUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authMethod",
        "managedBy",
    )


class IoTHubRegistryStatistics(Result):
    """How many devices there are."""

    FIELDS = ("totalDeviceCount", "enabledDeviceCount", "disabledDeviceCount")


# How the service calls the methods of signing in; a module may have none, and a later service may know more.
_AUTH_WORDS = ("sas", "selfSigned", "certificateAuthority", "none")
_UNKNOWN_AUTH = 4


def _has_blanks(*ids):
    return any(not name or any(character.isspace() for character in name) for name in ids)


def _authentication(method, primary, secondary):
    if method is IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY:
        return {"type": "sas", "symmetricKey": {"primaryKey": primary or None, "secondaryKey": secondary or None}}
    if method is IoTHubRegistryManagerAuthMethod.X509_THUMBPRINT:
        thumbprints = {"primaryThumbprint": primary or None, "secondaryThumbprint": secondary or None}
        return {"type": "selfSigned", "x509Thumbprint": thumbprints}
    return {"type": "certificateAuthority"}


def _shared_fields(identity):
    """What devices and modules have in common."""
    authentication = identity.get("authentication") or {}
    keys = authentication.get("symmetricKey") or {}
    thumbprints = authentication.get("x509Thumbprint") or {}
    word = authentication.get("type", "sas")
    connected = identity.get("connectionState") == "Connected"
    states = IoTHubDeviceConnectionState
    return {
        "deviceId": identity.get("deviceId"),
        "primaryKey": keys.get("primaryKey") or thumbprints.get("primaryThumbprint"),
        "secondaryKey": keys.get("secondaryKey") or thumbprints.get("secondaryThumbprint"),
        "generationId": identity.get("generationId"),
        "eTag": identity.get("etag"),
        "connectionState": states.CONNECTED if connected else states.DISCONNECTED,
        "connectionStateUpdatedTime": identity.get("connectionStateUpdatedTime"),
        "lastActivityTime": identity.get("lastActivityTime"),
        "cloudToDeviceMessageCount": int(identity.get("cloudToDeviceMessageCount") or 0),
        "authMethod": IoTHubRegistryManagerAuthMethod(
            _AUTH_WORDS.index(word) if word in _AUTH_WORDS else _UNKNOWN_AUTH
        ),
    }


def _device(identity):
    enabled = identity.get("status", "enabled") == "enabled"
    return IoTHubDevice._make(
        status=IoTHubDeviceStatus.ENABLED if enabled else IoTHubDeviceStatus.DISABLED,
        statusReason=identity.get("statusReason"),
        statusUpdatedTime=identity.get("statusUpdatedTime"),
        isManaged=False,
        **_shared_fields(identity),
    )


def _module(identity):
    return IoTHubModule._make(
        moduleId=identity.get("moduleId"), managedBy=identity.get("managedBy"), **_shared_fields(identity)
    )


_auth_method = a(IoTHubRegistryManagerAuthMethod)
_capabilities = a(IoTHubDeviceCapabilities)


class IoTHubRegistryManager(_ServiceClient):
    """Devices and modules of a hub."""

    _error = IoTHubRegistryManagerError
    _error_arg = IoTHubRegistryManagerErrorArg
    _malformed = IoTHubRegistryManagerResult.ERROR
    _device_may_sign_in = True

    @staticmethod
    def _result_of(function, kind, status):
        results = IoTHubRegistryManagerResult
        if kind == "status":
            if status == 409 and function.startswith("Create"):
                return results.DEVICE_EXIST
            if status == 404 and function.startswith("Get"):
                return results.DEVICE_NOT_EXIST
            return results.HTTP_STATUS_ERROR
        known = {
            "transport": results.HTTPAPI_ERROR,
            "answer": results.JSON_ERROR,
            # The hub would have refused the id, had it been asked.
            "id": results.HTTP_STATUS_ERROR,
        }
        return known.get(kind, results.ERROR)

    def _check(self, function, *ids, auth_method=None):
        known = auth_method is None or int(auth_method) in range(3)
        if _has_blanks(*ids) or not known:
            raise self._failed(function, IoTHubRegistryManagerResult.INVALID_ARG)

    def _write(self, function, operation, identity):
        answer = self._call(function, operation, _json.dumps(identity))
        return _json.loads(answer)

    @takes_any(
        [text, optional_text, optional_text, _auth_method],
        [text, optional_text, optional_text, _auth_method, _capabilities],
    )
    def create_device(self, device_id, primary_key, secondary_key, auth_method, *capabilities):
        self._check("CreateDevice", device_id, auth_method=auth_method)
        identity = self._identity(device_id, primary_key, secondary_key, auth_method, *capabilities)
        return _device(self._write("CreateDevice", self._service.create_device, identity))

    @takes(text)
    def get_device(self, device_id):
        self._check("GetDevice", device_id)
        return _device(_json.loads(self._call("GetDevice", self._service.device, device_id)))

    @takes_any(
        [text, optional_text, optional_text, a(IoTHubDeviceStatus), _auth_method],
        [text, optional_text, optional_text, a(IoTHubDeviceStatus), _auth_method, _capabilities],
    )
    def update_device(self, device_id, primary_key, secondary_key, status, auth_method, *capabilities):
        self._check("UpdateDevice", device_id, auth_method=auth_method)
        identity = self._identity(device_id, primary_key, secondary_key, auth_method, *capabilities)
        identity["status"] = "enabled" if status is IoTHubDeviceStatus.ENABLED else "disabled"
        self._write("UpdateDevice", self._service.update_device, identity)

    @takes(text)
    def delete_device(self, device_id):
        self._check("DeleteDevice", device_id)
        self._call("DeleteDevice", self._service.delete_device, device_id)

    @takes(integer)
    def get_device_list(self, number_of_devices):
        if not 1 <= number_of_devices <= 1000:
            raise self._failed("GetDeviceList", IoTHubRegistryManagerResult.INVALID_ARG)
        answer = self._call("GetDeviceList", self._service.devices, number_of_devices)
        return [_device(identity) for identity in _json.loads(answer)]

    @takes()
    def get_statistics(self):
        total, enabled, disabled = self._call("GetStatistics", self._service.statistics)
        return IoTHubRegistryStatistics._make(
            totalDeviceCount=total, enabledDeviceCount=enabled, disabledDeviceCount=disabled
        )

    @takes_any(
        [text, optional_text, optional_text, text, _auth_method],
        [text, optional_text, optional_text, text, _auth_method, optional_text],
    )
    def create_module(self, device_id, primary_key, secondary_key, module_id, auth_method, managed_by=None):
        self._check("CreateModule", device_id, module_id, auth_method=auth_method)
        identity = self._identity(device_id, primary_key, secondary_key, auth_method)
        identity.update(moduleId=module_id, managedBy=managed_by)
        return _module(self._write("CreateModule", self._service.create_module, identity))

    @takes_any(
        [text, optional_text, optional_text, text, _auth_method],
        [text, optional_text, optional_text, text, _auth_method, optional_text],
    )
    def update_module(self, device_id, primary_key, secondary_key, module_id, auth_method, managed_by=None):
        self._check("UpdateModule", device_id, module_id, auth_method=auth_method)
        identity = self._identity(device_id, primary_key, secondary_key, auth_method)
        identity.update(moduleId=module_id, managedBy=managed_by)
        self._write("UpdateModule", self._service.update_module, identity)

    @takes(text, text)
    def get_module(self, device_id, module_id):
        self._check("GetModule", device_id, module_id)
        return _module(_json.loads(self._call("GetModule", self._service.module, device_id, module_id)))

    @takes(text)
    def get_module_list(self, device_id):
        self._check("GetModuleList", device_id)
        answer = self._call("GetModuleList", self._service.modules, device_id)
        return [_module(identity) for identity in _json.loads(answer)]

    @takes(text, text)
    def delete_module(self, device_id, module_id):
        self._check("DeleteModule", device_id, module_id)
        self._call("DeleteModule", self._service.delete_module, device_id, module_id)

    @staticmethod
    def _identity(device_id, primary_key, secondary_key, auth_method, capabilities=None):
        identity = {
            "deviceId": device_id,
            "authentication": _authentication(auth_method, primary_key, secondary_key),
        }
        if capabilities is not None:
            identity["capabilities"] = {"iotEdge": bool(capabilities.iot_edge)}
        return identity


# ---------------------------------------------------------------- twins and methods (revival §3.3, §3.4)


class IoTHubDeviceTwin(_ServiceClient):
    """Twins, as the text the hub has written."""

    _error = IoTHubDeviceTwinError
    _error_arg = IoTHubDeviceTwinErrorArg
    _malformed = IoTHubDeviceTwinResult.ERROR

    @staticmethod
    def _result_of(function, kind, status):
        return IoTHubDeviceTwinResult.ERROR

    @takes_any([text], [text, text])
    def get_twin(self, device_id, *rest):
        module_id = rest[0] if rest else None
        function = "GetTwin" if module_id is None else "GetModuleTwin"
        return self._call(function, self._service.twin, device_id, module_id)

    @takes_any([text, text], [text, text, text])
    def update_twin(self, device_id, *rest):
        module_id, twin_json = (None, *rest) if len(rest) == 1 else rest
        function = "UpdateTwin" if module_id is None else "UpdateModuleTwin"
        return self._call(function, self._service.patch_twin, device_id, module_id, twin_json)


class IoTHubDeviceMethodResponse(Result):
    """A device's answer: its status, and its payload as JSON text."""

    FIELDS = ("status", "payload")


class IoTHubDeviceMethod(_ServiceClient):
    """Direct methods of devices and modules."""

    _error = IoTHubDeviceMethodError
    _error_arg = IoTHubDeviceMethodErrorArg
    _malformed = IoTHubDeviceMethodResult.ERROR

    @staticmethod
    def _result_of(function, kind, status):
        return IoTHubDeviceMethodResult.ERROR

    @takes_any([text, text, text, unsigned], [text, text, text, text, unsigned])
    def invoke(self, device_id, *rest):
        """`(device_id[, module_id], method_name, payload, timeout)`: payload is JSON text, timeout in seconds."""
        module_id, method_name, payload, timeout = (None, *rest) if len(rest) == 3 else rest
        function = "Invoke" if module_id is None else "InvokeModule"
        status, answer = self._call(
            function, self._service.invoke, device_id, module_id, method_name, payload, timeout
        )
        return IoTHubDeviceMethodResponse._make(status=status, payload=answer)


# ---------------------------------------------------------------- messages to devices (revival §3.5)


class IoTHubServiceFeedbackBatch(Result):
    """Never handed out: feedback comes as plain values."""

    FIELDS = ("userId", "lockToken", "feedbackRecords")


class IoTHubServiceFeedbackRecord(Result):
    """Never handed out: feedback comes as plain values."""

    FIELDS = (
        "description",
        "deviceId",
        "correlationId",
        "generationId",
        "enqueuedTimeUtc",
        "statusCode",
        "originalMessageId",
    )


_FEEDBACK_CODES = {
    "success": IoTHubFeedbackStatusCode.SUCCESS,
    "expired": IoTHubFeedbackStatusCode.EXPIRED,
    "deliverycountexceeded": IoTHubFeedbackStatusCode.DELIVER_COUNT_EXCEEDED,
    "rejected": IoTHubFeedbackStatusCode.REJECTED,
}


def _feedback_record(record):
    word = record.get("statusCode", "").lower()
    return {
        "description": (record.get("description") or word).lower(),
        "deviceId": record.get("deviceId"),
        "correlationId": record.get("correlationId", ""),
        "generationId": record.get("deviceGenerationId"),
        "enqueuedTimeUtc": record.get("enqueuedTimeUtc"),
        "statusCode": int(_FEEDBACK_CODES.get(word, IoTHubFeedbackStatusCode.UNKNOWN)),
        "originalMessageId": record.get("originalMessageId"),
    }


def _message(value):
    """A message of this module or of iothub_client, or text alone."""
    if isinstance(value, str):
        return IoTHubMessage(text(value))
    return a(MessageBase)(value)


class IoTHubMessaging(_ServiceClient):
    """Messages to devices, and what became of them. On this class the context is a callback's first argument."""

    _error = IoTHubMessagingError
    _error_arg = IoTHubMessagingErrorArg
    _malformed = IoTHubMessagingResult.ERROR

    @takes_any([text], [a(IoTHubServiceClientAuth)])
    def __init__(self, connection):
        super().__init__(connection)
        self._courier = None
        self._closer = None
        self._deliver = None

    @staticmethod
    def _result_of(function, kind, status):
        return IoTHubMessagingResult.ERROR

    @takes(anything, anything)
    def open(self, open_callback, context):
        callback(open_callback, "open")
        if self._courier is not None:
            raise self._failed("Open", IoTHubMessagingResult.ERROR)
        # A client that was closed stays so; the courier has one of its own.
        service = _native.Service(self._connection_string)
        self._courier = courier = Courier(service)
        # Dropping this object closes it too; the courier sees to the end of the process itself.
        self._closer = _weakref.finalize(self, courier.close)
        self._closer.atexit = False
        self._service = service
        courier.post(lambda: open_callback(context))
        if self._deliver is not None:
            courier.set_feedback(self._deliver)

    @takes()
    def close(self):
        closer, self._closer, self._courier = self._closer, None, None
        if closer is not None:
            closer()

    @takes(text, _message, anything, anything)
    def send_async(self, device_id, message, send_callback, context):
        callback(send_callback, "send_async")
        if self._courier is None:
            raise self._failed("SendAsync", IoTHubMessagingResult.ERROR)
        service = self._service
        properties = message.properties().get_internals()
        # This property is how feedback is asked for; the hub puts it among those that the device sees.
        ack = properties.pop("iothub-ack", "none")
        parts = (message._body, message.message_id, message.correlation_id, list(properties.items()), ack)

        def send():
            try:
                service.send(device_id, *parts)
                result = IoTHubMessagingResult.OK
            except (_native.Failure, RuntimeError):
                result = IoTHubMessagingResult.ERROR
            send_callback(context, result)

        if not self._courier.post(send):
            raise self._failed("SendAsync", IoTHubMessagingResult.ERROR)

    @takes(anything, anything)
    def set_feedback_message_callback(self, feedback_callback, context):
        callback(feedback_callback, "set_feedback_message_callback")

        def deliver(records):
            feedback_callback(context, "", "", [_feedback_record(record) for record in records])

        self._deliver = deliver
        if self._courier is not None:
            self._courier.set_feedback(deliver)


# ---------------------------------------------------------------- configurations (revival §3.6)


class IoTHubDeviceConfigurationContent(Native):
    """What a configuration sets, as JSON text."""

    @takes()
    def __init__(self):
        self.deviceContent = ""
        self.modulesContent = ""


def _content_json(content):
    """The content as the service wants it; ValueError when the text is no JSON."""
    made = {}
    for attribute in ("deviceContent", "modulesContent"):
        given = text(getattr(content, attribute) or "").strip()
        if given:
            made[attribute] = _json.loads(given)
    return made


def _compact(value):
    return "" if value is None else _json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class IoTHubDeviceConfiguration(Native):
    """Settings for every device that meets a condition."""

    @takes()
    def __init__(self):
        self.schemaVersion = "1.0"
        self.configurationId = ""
        self.targetCondition = ""
        self.eTag = ""
        self.createdTimeUtc = ""
        self.priority = 0
        self._lastUpdatedTimeUtc = None
        self._labels = {}
        self._content = IoTHubDeviceConfigurationContent()

    @property
    def lastUpdatedTimeUtc(self):
        return self._lastUpdatedTimeUtc

    @property
    def labels(self):
        return self._labels

    @property
    def content(self):
        return self._content

    def _to_json(self):
        return _json.dumps(
            {
                "id": self.configurationId,
                "schemaVersion": self.schemaVersion or "1.0",
                "labels": self._labels or None,
                "content": _content_json(self._content),
                "targetCondition": self.targetCondition,
                "priority": int(self.priority),
            }
        )

    @classmethod
    def _from(cls, answer):
        made = cls()
        made.configurationId = answer.get("id")
        made.schemaVersion = answer.get("schemaVersion")
        made.targetCondition = answer.get("targetCondition")
        made.eTag = answer.get("etag")
        made.createdTimeUtc = answer.get("createdTimeUtc")
        made.priority = answer.get("priority") or 0
        made._lastUpdatedTimeUtc = answer.get("lastUpdatedTimeUtc")
        made._labels.update(answer.get("labels") or {})
        content = answer.get("content") or {}
        made._content.deviceContent = _compact(content.get("deviceContent"))
        made._content.modulesContent = _compact(content.get("modulesContent"))
        return made


_configuration = a(IoTHubDeviceConfiguration)


class IoTHubDeviceConfigurationManager(_ServiceClient):
    """Automatic configurations of a hub."""

    _error = IoTHubDeviceConfigurationError
    _error_arg = IoTHubDeviceConfigurationErrorArg
    _malformed = "ERROR"

    @staticmethod
    def _result_of(function, kind, status):
        if kind == "status":
            return {404: "CONFIGURATION_DOES_NOT_EXIST", 409: "CONFIGURATION_DOES_EXIST"}.get(
                status, "HTTP_STATUS_ERROR"
            )
        return {"transport": "HTTPAPI_ERROR", "answer": "JSON_ERROR", "request": "INVALID_ARG"}.get(kind, "ERROR")

    def _write(self, function, operation, configuration):
        try:
            body = configuration._to_json()
        except (TypeError, ValueError):
            raise self._failed(function, "JSON_ERROR") from None
        return IoTHubDeviceConfiguration._from(_json.loads(self._call(function, operation, body)))

    @takes(_configuration)
    def add_configuration(self, configuration):
        return self._write("AddConfiguration", self._service.create_configuration, configuration)

    @takes(text)
    def get_configuration(self, configuration_id):
        answer = self._call("GetConfiguration", self._service.configuration, configuration_id)
        return IoTHubDeviceConfiguration._from(_json.loads(answer))

    @takes(_configuration)
    def update_configuration(self, configuration):
        return self._write("UpdateConfiguration", self._service.update_configuration, configuration)

    @takes(text)
    def delete_configuration(self, configuration_id):
        self._call("DeleteConfiguration", self._service.delete_configuration, configuration_id)

    @takes(integer)
    def get_configuration_list(self, maximum):
        if not 1 <= maximum <= 20:
            raise self._failed("GetConfigurationList", "INVALID_ARG")
        answer = self._call("GetConfigurationList", self._service.configurations, maximum)
        return [IoTHubDeviceConfiguration._from(configuration) for configuration in _json.loads(answer)]

    @takes(text, a(IoTHubDeviceConfigurationContent))
    def apply_configurationcontent_to_device_or_module(self, device_id, content):
        function = "ApplyConfigurationContentToDeviceOrModule"
        try:
            body = _json.dumps(_content_json(content))
        except (TypeError, ValueError):
            raise self._failed(function, "JSON_ERROR") from None
        self._call(function, self._service.apply_configuration_content, device_id, body)


__all__ = [name for name in list(globals()) if name.startswith("IoTHub")]
