"""The exceptions of `iothub_client` and what they carry (revival §1.4).

Must not know: when one is raised.
"""

from ostler_iothub.errors import error, error_arg

_MODULE = "iothub_client.iothub_client"

IoTHubError = error("IoTHubError", Exception, _MODULE, "The base of all exceptions of this package.")
IoTHubMapError = error("IoTHubMapError", IoTHubError, _MODULE, "A map refused something.")
IoTHubMessageError = error("IoTHubMessageError", IoTHubError, _MODULE, "A message refused something.")
IoTHubClientError = error("IoTHubClientError", IoTHubError, _MODULE, "A client refused something.")

IoTHubMapErrorArg = error_arg(IoTHubMapError, "IoTHubMap", "IoTHubMapResult")
IoTHubMessageErrorArg = error_arg(IoTHubMessageError, "IoTHubMessage", "IoTHubMessageResult")
IoTHubClientErrorArg = error_arg(IoTHubClientError, "IoTHubClient", "IoTHubClientResult")


def client_error(function, result):
    """An exception of a client; `function` is spelled as C++ did."""
    return IoTHubClientError(IoTHubClientErrorArg(function, result))
