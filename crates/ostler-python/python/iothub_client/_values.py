"""The small value classes of `iothub_client` (revival §2.2).

Must not know: clients, threads, the network.
"""

from ostler_iothub.arguments import a, integer, takes, takes_any, text
from ostler_iothub.objects import Native, Result

from ._enums import IoTHubTransportProvider

_MODULE = "iothub_client.iothub_client"


def _checked(name, kind, doc):
    """A read-write attribute of one kind."""
    slot = "_" + name

    @takes(kind)
    def write(self, value):
        self.__dict__[slot] = value

    write.__qualname__ = name
    return property(lambda self: self.__dict__[slot], write, doc=doc)


class IoTHubTransport(Native):
    """A transport that several clients name, each of which has its own connection here."""

    __module__ = _MODULE

    @takes(a(IoTHubTransportProvider), text, text)
    def __init__(self, provider, hub_name, hub_suffix):
        self._provider = provider
        self._hub_name = hub_name
        self._hub_suffix = hub_suffix


class IoTHubConfig(Native):
    """A device in parts. Empty text is unset."""

    __module__ = _MODULE

    @takes(a(IoTHubTransportProvider), text, text, text, text, text, text)
    def __init__(self, provider, device_id, device_key, sas_token, hub_name, hub_suffix, protocol_gateway_host):
        self._provider = provider
        self._device_id = device_id
        self._device_key = device_key
        self._sas_token = sas_token
        self._hub_name = hub_name
        self._hub_suffix = hub_suffix
        self._protocol_gateway_host = protocol_gateway_host


class HttpProxyOptions(Native):
    """An HTTP proxy that passes connections on (the option `proxy_data`)."""

    __module__ = _MODULE

    host_address = _checked("host_address", text, "The host of the proxy.")
    port = _checked("port", integer, "The port of the proxy.")
    username = _checked("username", text, "The user of the proxy, or empty.")
    password = _checked("password", text, "The password of the proxy, or empty.")

    @takes_any([text], [text, integer], [text, integer, text], [text, integer, text, text])
    def __init__(self, host_address, port=0, username="", password=""):
        self.host_address = host_address
        self.port = port
        self.username = username
        self.password = password


class DeviceMethodReturnValue(Native):
    """What a method callback returns: JSON text and a status."""

    __module__ = _MODULE

    response = _checked("response", text, "JSON text. An empty one is no answer.")
    status = _checked("status", integer, "The status, a whole number.")

    @takes()
    def __init__(self):
        self.response = ""
        self.status = 0


class GetRetryPolicyReturnValue(Result):
    """What get_retry_policy returns."""

    __module__ = _MODULE
    FIELDS = ("retryPolicy", "retryTimeoutLimitInSeconds")


class IoTHubMethodResponse(Result):
    """What invoke_method_async brings to its callback."""

    __module__ = _MODULE
    FIELDS = ("result", "responseStatus", "responsePayload")
