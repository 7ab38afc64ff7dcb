"""Messages and maps of `iothub_client` (revival §2.3, §2.4).

Must not know: clients, threads, the network.

Invariant: application properties and system properties are apart; a map never shows the latter.
"""

from ostler_iothub.arguments import a, takes, text
from ostler_iothub.maps import MapBase
from ostler_iothub.messages import MessageBase
from ostler_iothub.objects import Native

from ._enums import IoTHubMapResult, IoTHubMessageContent, IoTHubMessageResult
from ._errors import IoTHubMapError, IoTHubMapErrorArg, IoTHubMessageError, IoTHubMessageErrorArg

_MODULE = "iothub_client.iothub_client"

_SYSTEM = (
    "message_id",
    "correlation_id",
    "content_type",
    "content_encoding",
    "input_name",
    "output_name",
    "connection_device_id",
    "connection_module_id",
)


class IoTHubMap(MapBase):
    """Text to text, in the order of adding, with a filter if one is given."""

    __module__ = _MODULE
    _error = IoTHubMapError
    _error_arg = IoTHubMapErrorArg
    _results = IoTHubMapResult


class IoTHubMessageDiagnosticPropertyData(Native):
    """An id and a creation time, for tracing one message through its stations."""

    __module__ = _MODULE

    @takes(text, text)
    def __init__(self, diagnostic_id, creation_time_utc):
        self._id = diagnostic_id
        self._time = creation_time_utc

    @takes()
    def get_diagnostic_id(self):
        """The id."""
        return self._id

    @takes()
    def get_diagnostic_time_utc(self):
        """The time, as text."""
        return self._time


class IoTHubMessage(MessageBase):
    """A message to or from the hub: content, application properties, and a few system properties."""

    __module__ = _MODULE
    _map = IoTHubMap
    _content = IoTHubMessageContent
    _results = IoTHubMessageResult
    _error = IoTHubMessageError
    _error_arg = IoTHubMessageErrorArg

    # Unset in messages that a program makes.
    _content_type = None
    _content_encoding = None
    _diagnostic = None
    _input_name = None
    _output_name = None
    _connection_device_id = None
    _connection_module_id = None

    @property
    def input_name(self):
        """The input it came to, or None."""
        return self._input_name

    @property
    def output_name(self):
        """The output it is for, or None."""
        return self._output_name

    @property
    def connection_device_id(self):
        """The device that sent it, or None."""
        return self._connection_device_id

    @property
    def connection_module_id(self):
        """The module that sent it, or None."""
        return self._connection_module_id

    @takes(text)
    def set_content_type_system_property(self, value):
        """Sets the MIME type."""
        self._content_type = value
        return IoTHubMessageResult.OK

    @takes()
    def get_content_type_system_property(self):
        """The MIME type, or None."""
        return self._content_type

    @takes(text)
    def set_content_encoding_system_property(self, value):
        """Sets the encoding of the content."""
        self._content_encoding = value
        return IoTHubMessageResult.OK

    @takes()
    def get_content_encoding_system_property(self):
        """The encoding of the content, or None."""
        return self._content_encoding

    @takes(a(IoTHubMessageDiagnosticPropertyData))
    def set_diagnostic_property_data(self, data):
        """Sets what traces the message."""
        self._diagnostic = data
        return IoTHubMessageResult.OK

    @takes()
    def get_diagnostic_property_data(self):
        """What traces the message, or None."""
        return self._diagnostic


# ---------------------------------------------------------------- between messages and the native half


def copy_of(message):
    """An equal message that no later change of the first one reaches."""
    twin = IoTHubMessage(bytearray())
    twin.__dict__.update(message.__dict__)
    twin._properties = IoTHubMap._printable(message._properties.get_internals())
    return twin


def received(body, properties, system):
    """The message of an event: always of bytes, whatever its sender made it of (revival §0.7)."""
    message = IoTHubMessage(bytearray(body))
    message._properties = IoTHubMap._printable(dict(properties))
    for name, value in system.items():
        if name in _SYSTEM:
            setattr(message, "_" + name, value)
    return message


def system_properties(message):
    """What the native half sends beside the application properties; names as in `received`."""
    system = {
        "message_id": message._message_id,
        "correlation_id": message._correlation_id,
        "content_type": message._content_type,
        "content_encoding": message._content_encoding,
    }
    return {name: value for name, value in system.items() if value is not None}
