"""How a module finds its hub in the environment that the edge runtime gives it (revival §2.1).

With `EdgeHubConnectionString` everything is said there, as development tools do. Otherwise the runtime's workload API,
behind a unix socket or plain HTTP, signs the module's tokens and hands out whom to trust.

Must not know: callbacks and threads.

Invariant: each question to the workload API ends within `_PATIENCE` seconds, and each answer is bounded.
"""

import base64
import http.client
import json
import os
import socket
import time
import urllib.parse

from ._connection import Malformed, Target, from_connection_string

_PATIENCE = 10.0
_MAX_ANSWER = 1024 * 1024
_API_VERSION = "2018-06-28"
#: Seconds that a token of the workload API lives; it is replaced after four fifths.
TOKEN_LIFETIME = 3600


def environment(load=os.environ.get):
    """What the environment names: (target, trusted PEM or None, signer or None)."""
    connection_string = load("EdgeHubConnectionString")
    if connection_string:
        return from_connection_string(connection_string), _file(_needed(load, "EdgeModuleCACertificateFile")), None
    scheme = _needed(load, "IOTEDGE_AUTHSCHEME")
    if scheme.lower() != "sastoken":
        raise Malformed("IOTEDGE_AUTHSCHEME={!r} is not sasToken".format(scheme))
    signer = Signer(
        Workload(_needed(load, "IOTEDGE_WORKLOADURI")),
        _needed(load, "IOTEDGE_IOTHUBHOSTNAME"),
        _needed(load, "IOTEDGE_DEVICEID"),
        _needed(load, "IOTEDGE_MODULEID"),
        _needed(load, "IOTEDGE_MODULEGENERATIONID"),
    )
    target = Target(
        signer.host,
        signer.device_id,
        module_id=signer.module_id,
        gateway=_needed(load, "IOTEDGE_GATEWAYHOSTNAME"),
        token=signer.token(),
    )
    return target, signer.workload.trust_bundle(), signer


def _needed(load, name):
    value = load(name)
    if not value:
        raise Malformed("{} is not set; is this an edge module?".format(name))
    return value


def _file(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(_MAX_ANSWER)
    except OSError as error:
        raise Malformed("EdgeModuleCACertificateFile={}: {}".format(path, error.strerror)) from error


class Signer:
    """Makes tokens of a key that only the runtime knows."""

    def __init__(self, workload, host, device_id, module_id, generation):
        self.workload = workload
        self.host = host
        self.device_id = device_id
        self.module_id = module_id
        self.generation = generation

    def token(self):
        """A token that lives for `TOKEN_LIFETIME` seconds. Raises Malformed."""
        resource = "{}/devices/{}/modules/{}".format(self.host, self.device_id, self.module_id)
        resource, expiry = urllib.parse.quote(resource, safe=""), int(time.time()) + TOKEN_LIFETIME
        signature = self.workload.sign(self.module_id, self.generation, "{}\n{}".format(resource, expiry))
        signature = urllib.parse.quote(signature, safe="")
        return "SharedAccessSignature sr={}&sig={}&se={}".format(resource, signature, expiry)


class Workload:
    """The workload API of the edge runtime."""

    def __init__(self, uri):
        self._uri = urllib.parse.urlsplit(uri)
        if self._uri.scheme not in ("unix", "http"):
            raise Malformed("IOTEDGE_WORKLOADURI={!r} is neither unix nor http".format(uri))

    def sign(self, module_id, generation, text):
        """The base64 signature of a text."""
        path = "/modules/{}/genid/{}/sign".format(
            urllib.parse.quote(module_id, safe=""), urllib.parse.quote(generation, safe="")
        )
        data = base64.b64encode(text.encode("utf-8")).decode("ascii")
        return self._ask("POST", path, {"keyId": "primary", "algo": "HMACSHA256", "data": data}, "digest")

    def trust_bundle(self):
        """The certificates to trust, as PEM."""
        return self._ask("GET", "/trust-bundle", None, "certificate")

    def _ask(self, method, path, body, member):
        connection = self._connection()
        try:
            prefix = self._uri.path.rstrip("/") if self._uri.scheme == "http" else ""
            content = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if content else {}
            connection.request(method, "{}{}?api-version={}".format(prefix, path, _API_VERSION), content, headers)
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER)
            if answer.status != 200:
                raise Malformed("the workload API answered {} to {}".format(answer.status, path))
            value = json.loads(text)[member]
            if not isinstance(value, str):
                raise TypeError(member)
            return value
        except (OSError, http.client.HTTPException) as error:
            raise Malformed("the workload API at {}: {}".format(self._uri.geturl(), error)) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, Malformed):
                raise
            raise Malformed("the workload API's answer has no `{}`".format(member)) from error
        finally:
            connection.close()

    def _connection(self):
        if self._uri.scheme == "http":
            return http.client.HTTPConnection(self._uri.hostname, self._uri.port or 80, timeout=_PATIENCE)
        return _UnixConnection(self._uri.path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
