"""What can keep a program from its hub, looked at one by one, each with a verdict and, if it is bad, with advice.

Must not know: callbacks.

Invariant: no line shows a key or a token.
Invariant: each look at the network ends within `_PATIENCE` seconds.
Invariant: what cannot be looked at because of an earlier finding is said to be left out, not to be good.
"""

import email.utils
import http.client
import os
import platform
import socket
import ssl
import sys
import time

from ostler_iothub import RETIRED_VERSION, _native
from ostler_iothub import __version__ as _REVIVAL

from ._connection import Malformed, from_connection_string, parts_of, usable
from ._enums import IoTHubTransportProvider
from ._session import Session
from ._settings import MQTT_PORT, mqtt_port, settings_of

_CONNECTION_STRING = "IOTHUB_DEVICE_CONNECTION_STRING"
_CA_FILES = ("OSTLER_CA_FILE", "SSL_CERT_FILE")
_PATIENCE = 10.0
#: Tokens live for an hour; a clock that is off by much less than that is no trouble yet.
_CLOCK_LIMIT_SECS = 300
_MQTT, _HTTPS = 8883, 443


class _Report:
    """The lines, and whether one of them is bad."""

    def __init__(self):
        self.bad = 0

    def _line(self, verdict, what, found):
        print("{:<5} {:<18} {}".format(verdict, what, found), flush=True)

    def good(self, what, found):
        """All is well."""
        self._line("ok", what, found)

    def note(self, what, found):
        """Nothing to judge."""
        self._line("-", what, found)

    def wrong(self, what, found, advice):
        """Something is wrong, and what to do."""
        self.bad += 1
        self._line("FAIL", what, found)
        print("      {:<18} -> {}".format("", advice), flush=True)


def run(connection_string):
    """Looks at everything; returns the exit code."""
    report = _Report()
    _look_at_packages(report)
    _look_at_environment(report)
    text = connection_string or os.environ.get(_CONNECTION_STRING)
    if not text:
        report.note("connection string", "none given, so no hub is looked at; give one, or set " + _CONNECTION_STRING)
    else:
        target = _look_at_connection_string(report, text)
        if target is not None:
            _look_at_hub(report, target)
    print()
    print("all is well" if not report.bad else "{} of the above is in the way".format(report.bad))
    return 1 if report.bad else 0


# ---------------------------------------------------------------- this machine


def _look_at_packages(report):
    report.good("iothub_client", "{} as revived by ostler-python {}".format(RETIRED_VERSION, _REVIVAL))
    native = _native.version()
    if native == _REVIVAL:
        report.good("native half", native)
    else:
        report.wrong("native half", native, "the wheel's halves do not belong together; install it again")
    found = "{} {} on {}".format(platform.python_implementation(), platform.python_version(), platform.platform())
    if sys.version_info >= (3, 8):
        report.good("Python", found)
    else:
        report.wrong("Python", found, "3.8 is the oldest that the wheel is made for")


def _look_at_environment(report):
    for name in _CA_FILES:
        path = os.environ.get(name)
        if path:
            _look_at_authorities(report, name, path)
        else:
            report.note(name, "not set")
    try:
        port = mqtt_port()
    except ValueError as error:
        report.wrong(MQTT_PORT, str(error), "give a number from 1 to 65535, or unset it")
    else:
        report.note(MQTT_PORT, "not set" if port is None else port)


def _look_at_authorities(report, name, path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        report.wrong(name, "{}: {}".format(path, reason), "name a PEM file; a hub of Ostler's own is in `ostler ca`")
        return
    authorities = context.get_ca_certs()
    expired = [one for one in authorities if ssl.cert_time_to_seconds(one["notAfter"]) < time.time()]
    if not authorities or len(expired) == len(authorities):
        found = "{}: {} certificate authorities, {} of them expired".format(path, len(authorities), len(expired))
        report.wrong(name, found, "take the hub's present one: `ostler ca`")
    else:
        report.good(name, "{}: {} certificate authorities".format(path, len(authorities)))


# ---------------------------------------------------------------- the connection string


def _look_at_connection_string(report, text):
    advice = "copy it anew; its form is HostName=...;DeviceId=...;SharedAccessKey=..."
    if "SharedAccessKeyName=" in text:
        advice = "that is a back end's; take the device's own: `ostler device connection-string ID` prints it"
    try:
        target = from_connection_string(text)
        key = parts_of(text).get("SharedAccessKey")
    except Malformed as error:
        report.wrong("connection string", error, advice)
        return None
    if key is not None and usable(key) != key:
        report.wrong("connection string", "SharedAccessKey is not the base64 of 16 to 64 bytes", advice)
        return None
    proof = "certificate" if target.certificate else "token" if target.token else "key"
    module = "" if target.module_id is None else ", module " + target.module_id
    report.good("connection string", "{} as {}{}, by {}".format(target.host, target.device_id, module, proof))
    return target


# ---------------------------------------------------------------- the hub


def _look_at_hub(report, target):
    host, https_port = _split(target.gateway or target.host)
    try:
        ports = {"MQTT": mqtt_port() or _MQTT, "HTTPS": https_port}
    except ValueError:
        return
    if not _look_up(report, host):
        return
    reached = {name: port for name, port in ports.items() if _connect(report, host, name, port)}
    trusted = [name for name, port in reached.items() if _shake_hands(report, host, name, port)]
    if "HTTPS" in trusted:
        _compare_clocks(report, host, https_port)
    if target.certificate:
        report.note("sign-in", "left out: the certificate is given by the program")
    elif trusted:
        provider = IoTHubTransportProvider.MQTT if "MQTT" in trusted else IoTHubTransportProvider.MQTT_WS
        _sign_in(report, target, provider)
    else:
        report.note("sign-in", "left out: the hub cannot be reached")


def _split(host):
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name.strip("[]"), int(port)
    return host.strip("[]"), _HTTPS


def _look_up(report, host):
    try:
        found = sorted({entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        report.wrong("DNS", "{}: {}".format(host, error), "check HostName, and that this machine can resolve names")
        return False
    report.good("DNS", "{} is {}".format(host, ", ".join(found)))
    return True


def _connect(report, host, name, port):
    what = "TCP " + name
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError as error:
        found = "{}:{}: {}".format(host, port, error)
        report.wrong(what, found, _ADVICE_FOR_PORT[name])
        return False
    report.good(what, "{}:{} answers".format(host, port))
    return True


_ADVICE_FOR_PORT = {
    "MQTT": "open the way to it, name another port in {}, or use MQTT_WS, which takes HTTPS's".format(MQTT_PORT),
    "HTTPS": "needed for MQTT_WS, AMQP_WS, HTTP and uploads; open the way, or write HostName=host:port",
}


def _context():
    context = ssl.create_default_context()
    for name in _CA_FILES:
        path = os.environ.get(name)
        if path:
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ssl.SSLError):
                pass  # Said before.
    return context


def _shake_hands(report, host, name, port):
    what = "TLS " + name
    try:
        with socket.create_connection((host, port), _PATIENCE) as plain:
            with _context().wrap_socket(plain, server_hostname=host) as secure:
                report.good(what, "{}, the certificate is trusted".format(secure.version()))
        return True
    except ssl.SSLCertVerificationError as error:
        report.wrong(what, error.verify_message, _ADVICE_FOR_CERTIFICATE)
    except (OSError, ssl.SSLError) as error:
        report.wrong(what, error, "is it a hub that answers there? A proxy may be in between")
    return False


_ADVICE_FOR_CERTIFICATE = (
    "put the hub's certificate authority into a file and name it in OSTLER_CA_FILE (`ostler ca` prints it); if the name "
    "does not match, write the host name that the hub was started with"
)


def _compare_clocks(report, host, port):
    connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=_context())
    try:
        connection.request("GET", "/")
        date = connection.getresponse().headers.get("Date")
        apart = None if date is None else abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        apart = None
    finally:
        connection.close()
    if apart is None:
        report.note("clock", "the hub does not tell its own")
    elif apart > _CLOCK_LIMIT_SECS:
        report.wrong("clock", "{:.0f} s from the hub's".format(apart), "set it (NTP): tokens are made by the clock")
    else:
        report.good("clock", "within {:.0f} s of the hub's".format(max(1, apart)))


def _sign_in(report, target, provider):
    what = "sign-in {}".format(provider)
    try:
        client = _native.DeviceClient(target.text(), settings_of(Session(target, provider)))
    except ValueError as error:
        report.wrong(what, error, "correct it and try again")
        return
    client.start()
    try:
        found = _first_status(client)
    finally:
        client.abandon()
    if found is None:
        report.wrong(what, "no answer within {:.0f} s".format(_PATIENCE), "is it a hub that answers there?")
    elif found == "CONNECTION_OK":
        report.good(what, "the hub lets {} in".format(target.device_id))
    else:
        report.wrong(what, "{}: {}".format(found, client.problem()), _ADVICE_FOR_REASON.get(found, "try again later"))


def _first_status(client):
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        event = client.next_event(max(0.0, deadline - time.monotonic()))
        if event is not None and event[0] == "status":
            return event[2]
    return None


_ADVICE_FOR_REASON = {
    "DEVICE_DISABLED": "check DeviceId and key, that the device is registered and enabled, and the clock",
    "BAD_CREDENTIAL": "check DeviceId and key",
    "NO_NETWORK": "the lines above say how far the network goes",
    "COMMUNICATION_ERROR": "what answers there does not speak MQTT; a proxy may be in between",
}
