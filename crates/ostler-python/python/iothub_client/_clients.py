"""The client classes of `iothub_client`: what programs see and how their calls are spelled (revival §2.1).

Must not know: the native half; that is `_session`'s.

Invariant: no constructor and no method touches the network or waits for it.
Invariant: a wrong argument is a TypeError, a wrong state an IoTHubClientError with the original's text.
"""

from ostler_iothub import warn_of_unusable_trust
from ostler_iothub.arguments import (
    Mismatch,
    a,
    anything,
    callback as callable_named,
    integer,
    long_integer,
    takes,
    takes_any,
    text,
    unsigned,
)
from ostler_iothub.objects import Native

from ._connection import Malformed, from_config, from_connection_string, from_security_type
from ._enums import IoTHubClientResult, IoTHubClientRetryPolicy, IoTHubSecurityType, IoTHubTransportProvider
from ._edge import environment
from ._errors import client_error
from ._messages import IoTHubMessage, copy_of
from ._options import refusal
from ._session import Session
from ._values import GetRetryPolicyReturnValue, HttpProxyOptions, IoTHubConfig, IoTHubTransport

_MODULE = "iothub_client.iothub_client"
_DEFAULT_RETRY = (IoTHubClientRetryPolicy.RETRY_EXPONENTIAL_BACKOFF_WITH_JITTER, 0)
_MESSAGE = a(IoTHubMessage)
_PROVIDER = a(IoTHubTransportProvider)


def raw_text(value):
    """Text as it was given: its size may have been counted in characters."""
    text(value)
    return value


def raw_content(value):
    """What a file is made of, as it was given."""
    return value if isinstance(value, bytearray) else raw_text(value) if isinstance(value, str) else _bytes(value)


def _bytes(value):
    if not isinstance(value, bytes):
        raise Mismatch
    return value


def _cut(source, size):
    """The first `size` bytes; all of them if `size` counts the characters of the text (revival §7)."""
    characters = source if isinstance(source, str) else None
    whole = source.encode("utf-8") if characters is not None else bytes(source)
    return whole if characters is not None and size == len(characters) else whole[:size]


def _option_value(value):
    if isinstance(value, HttpProxyOptions):
        return value
    return long_integer(value) if isinstance(value, int) else text(value)


class _Client(Native):
    """What the device's and the module's client have in common."""

    _session = None

    def _open(self, make_target, provider):
        warn_of_unusable_trust(stacklevel=5)
        try:
            self._session = Session(make_target(), provider)
        except Malformed as reason:
            raise client_error("IoTHubClient", IoTHubClientResult.ERROR) from reason

    def __del__(self):
        session = self.__dict__.get("_session")
        if session is not None:
            session.close()

    def _there(self, function):
        if self._session is None:
            raise client_error(function, IoTHubClientResult.ERROR)
        return self._session

    def _started(self, function):
        session = self._there(function)
        try:
            begun = session.start()
        except ValueError as reason:
            raise client_error(function, IoTHubClientResult.ERROR) from reason
        if not begun:
            raise client_error(function, IoTHubClientResult.ERROR)
        return session

    def _started_with_twin(self, function):
        """HTTP has neither twins nor methods (revival §2.7)."""
        if self._there(function).polls:
            raise client_error(function, IoTHubClientResult.ERROR)
        return self._started(function)

    @property
    def protocol(self):
        """The provider that was asked for."""
        return self._there("GetProtocol").provider

    # ------------------------------------------------------------ messages

    @takes_any([_MESSAGE, anything, anything], [text, _MESSAGE, anything, anything])
    def send_event_async(self, *arguments):
        """(message, callback, context) or (output, message, callback, context): queues a copy of the message."""
        *output, message, callback, context = arguments
        callable_named(callback, "send_event_async")
        function = "SendEventToOutputAsync" if output else "SendEventAsync"
        session = self._started(function)
        copied = copy_of(message)
        if output:
            copied._output_name = output[0]
        timeout_ms = session.options.get("messageTimeout", 0)
        session.send(copied, output[0] if output else None, timeout_ms, callback, context)

    @takes_any([anything, anything], [text, anything, anything])
    def set_message_callback(self, *arguments):
        """(callback, context) or (input, callback, context)."""
        *input_name, callback, context = arguments
        callable_named(callback, "set_message_callback")
        function = "SetInputMessageCallback" if input_name else "SetMessageCallback"
        session = self._started(function)
        if input_name:
            session.listen("inputs", callback, context, input_name[0])
        else:
            session.listen("messages" if session.target.module_id is None else "inputs", callback, context)

    @takes()
    def get_send_status(self):
        """BUSY while anything is queued or unacknowledged."""
        return self._there("GetSendStatus").status()

    @takes()
    def get_last_message_receive_time(self):
        """Epoch seconds. Raises IoTHubClientError INDEFINITE_TIME before the first message."""
        function = "GetLastMessageReceiveTime"
        received = self._there(function).last_message_time
        if received is None:
            raise client_error(function, IoTHubClientResult.INDEFINITE_TIME)
        return received

    # ------------------------------------------------------------ connection

    @takes(anything, anything)
    def set_connection_status_callback(self, callback, context):
        """Called with every change of the connection."""
        callable_named(callback, "set_connection_status_callback")
        function = "SetConnectionStatusCallback"
        # First, because the hub may answer before this returns.
        self._there(function).register("status", callback, context)
        self._started(function)

    @takes(a(IoTHubClientRetryPolicy), unsigned)
    def set_retry_policy(self, policy, limit_secs):
        """How connections are tried again, and for how many seconds at most; 0 is for ever."""
        self._started("SetRetryPolicy").set_retry(policy, limit_secs)

    @takes()
    def get_retry_policy(self):
        """What set_retry_policy was given, or the default."""
        policy, limit = self._started("GetRetryPolicy").retry or _DEFAULT_RETRY
        return GetRetryPolicyReturnValue._make(retryPolicy=policy, retryTimeoutLimitInSeconds=limit)

    @takes(text, anything)
    def set_option(self, name, value):
        """Sets an option. A refused one is a line on stdout, never an exception."""
        session = self._there("SetOption")
        try:
            value = _option_value(value)
        except Mismatch:
            raise TypeError("set_option expected type int, string or HttpProxyOptions") from None
        refused = refusal(name, value, session.target.certificate)
        if refused is None and not session.set_option(name, value):
            refused = int(IoTHubClientResult.ERROR)
        if refused is not None:
            print("IoTHub Client SetOption failed with result: {}".format(refused))

    # ------------------------------------------------------------ reported properties

    @takes(raw_text, integer, anything, anything)
    def send_reported_state(self, reported_state, size, callback, context):
        """Queues a patch of reported properties (JSON text); the callback gets the hub's status."""
        callable_named(callback, "send_reported_state")
        if size <= 0:
            raise client_error("SendReportedState", IoTHubClientResult.INVALID_ARG)
        session = self._started_with_twin("SendReportedState")
        session.report(_cut(reported_state, size), callback, context)

    def _set_twin_callback(self, name, callback, context):
        callable_named(callback, name)
        self._started_with_twin("SetTwinCallback").listen("twin", callback, context)

    def _set_method_callback(self, name, callback, context):
        callable_named(callback, name)
        self._started_with_twin("SetMethodCallback").listen("methods", callback, context)


_BY_CONNECTION_STRING = [text, _PROVIDER]
_BY_CONFIG = [a(IoTHubTransport), a(IoTHubConfig)]
_BY_SECURITY_TYPE = [text, text, a(IoTHubSecurityType), _PROVIDER]


class _Device(_Client):
    """The device's client, which is bound under two names."""

    @takes_any(_BY_SECURITY_TYPE, _BY_CONFIG, _BY_CONNECTION_STRING)
    def __init__(self, *arguments):
        self._transport = None
        if isinstance(arguments[0], IoTHubTransport):
            self._transport, config = arguments
            self._open(lambda: from_config(self._transport, config), self._transport._provider)
        elif len(arguments) == 4:
            host, device_id, security, provider = arguments
            certificate = security is IoTHubSecurityType.X509
            self._open(lambda: from_security_type(host, device_id, certificate), provider)
        else:
            connection_string, provider = arguments
            self._open(lambda: from_connection_string(connection_string), provider)

    @takes(anything, anything)
    def set_device_twin_callback(self, callback, context):
        """Called with the whole twin after each connection and with each desired patch."""
        self._set_twin_callback("set_device_twin_callback", callback, context)

    @takes(anything, anything)
    def set_device_method_callback(self, callback, context):
        """Called with name and payload text; returns a DeviceMethodReturnValue."""
        self._set_method_callback("set_device_method_callback", callback, context)

    @takes(integer, raw_text, integer, integer)
    def device_method_response(self, method_id, response, size, status):
        """Answers a call that was handed out with its id."""
        session = self._there("DeviceMethodResponse")
        answer = _cut(response, size).decode("utf-8", "replace")
        if not session.answer(method_id, status, answer):
            raise client_error("DeviceMethodResponse", IoTHubClientResult.ERROR)

    @takes(text, raw_content, integer, anything, anything)
    def upload_blob_async(self, name, source, size, callback, context):
        """Uploads the first `size` bytes as a file; the callback comes on a thread of its own."""
        callable_named(callback, "upload_to_blob")
        if size < 0:
            raise client_error("UploadToBlobAsync", IoTHubClientResult.INVALID_ARG)
        session = self._started("UploadToBlobAsync")
        session.upload(name, _cut(source, size), callback, context)


class IoTHubClient(_Device):
    """A device's client.

    `IoTHubClient(connection_string, provider)`, `IoTHubClient(transport, config)` or
    `IoTHubClient(hub, device_id, security_type, provider)`.
    """

    __module__ = _MODULE

    @takes(anything, anything)
    def set_device_method_callback_ex(self, callback, context):
        """Called with name, payload text and an id for device_method_response."""
        callable_named(callback, "set_device_method_callback_ex")
        self._started_with_twin("SetDeviceMethodCallbackEx").listen("methods_ex", callback, context)


class IoTHubDeviceClient(_Device):
    """A device's client under its name of 2018."""

    __module__ = _MODULE


class IoTHubModuleClient(_Client):
    """A module's client: made of a connection string, or empty until create_from_environment."""

    __module__ = _MODULE

    @takes_any(_BY_CONFIG, [], _BY_CONNECTION_STRING)
    def __init__(self, *arguments):
        if not arguments:
            return
        if isinstance(arguments[0], IoTHubTransport):
            transport, config = arguments
            self._open(lambda: from_config(transport, config), transport._provider)
        else:
            connection_string, provider = arguments
            self._open(lambda: from_connection_string(connection_string), provider)

    @takes(_PROVIDER)
    def create_from_environment(self, provider):
        """Becomes the module that the edge runtime named in the environment."""
        # It is a constructor in all but form, and its errors say so (revival §2.1).
        if self._session is not None:
            raise client_error("IoTHubClient", IoTHubClientResult.ERROR)
        try:
            target, trusted, signer = environment()
        except Malformed as reason:
            raise client_error("IoTHubClient", IoTHubClientResult.ERROR) from reason
        self._open(lambda: target, provider)
        self._session.signer = signer
        if trusted:
            self._session.set_option("TrustedCerts", trusted)

    @takes(anything, anything)
    def set_module_twin_callback(self, callback, context):
        """Called with the whole twin after each connection and with each desired patch."""
        self._set_twin_callback("set_device_twin_callback", callback, context)

    @takes(anything, anything)
    def set_module_method_callback(self, callback, context):
        """Called with name and payload text; returns a DeviceMethodReturnValue."""
        self._set_method_callback("set_device_method_callback", callback, context)

    @takes_any(
        [text, text, text, unsigned, anything, anything],
        [text, text, text, text, unsigned, anything, anything],
    )
    def invoke_method_async(self, device_id, *rest):
        """(device_id, [module_id,] method, payload text, timeout in seconds, callback, context)."""
        *module_id, method, payload, timeout_secs, callback, context = rest
        callable_named(callback, "InvokeMethodAsyncOnModule")
        session = self._started("InvokeMethodAsyncOnModule" if module_id else "InvokeMethodAsyncOnDevice")
        module = module_id[0] if module_id else None
        session.invoke(device_id, module, method, payload, timeout_secs, callback, context)
