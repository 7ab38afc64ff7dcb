"""Who a client is and whom it dials: connection strings, configurations, and the environment of edge modules
(revival §2.2, §2.9).

Must not know: threads, callbacks.

Invariant: a `Target` is complete; what is missing or doubled is refused with `Malformed`, which never shows a key.
"""

import base64
import binascii
import hashlib
import os

from ostler_iothub import _native

_PARTS = (
    "HostName DeviceId ModuleId SharedAccessKey SharedAccessKeyName SharedAccessSignature GatewayHostName x509 "
    "UseProvisioning"
).split()
#: What a client that is "provisioned" signs in with, where the original asked a security module.
DEVICE_KEY = "OSTLER_DEVICE_KEY"


class Malformed(ValueError):
    """Why this is nobody to sign in as."""


class Target:
    """A hub, an identity, and what proves it."""

    def __init__(self, host, device_id, module_id=None, gateway=None, key=None, policy=None, token=None):
        self.host = host
        self.device_id = device_id
        self.module_id = module_id
        self.gateway = gateway
        self.key = key
        self.policy = policy
        self.token = token
        problem = _native.connection_string_problem(self.text())
        if problem:
            raise Malformed(problem)

    @property
    def certificate(self):
        """Whether a client certificate is what signs in."""
        return self.key is None and self.token is None

    def text(self):
        """The connection string for the native half."""
        parts = [("HostName", self.host), ("DeviceId", self.device_id), ("ModuleId", self.module_id)]
        parts.append(("GatewayHostName", self.gateway))
        if self.token is not None:
            parts.append(("SharedAccessSignature", self.token))
        elif self.key is not None:
            parts += [("SharedAccessKeyName", self.policy), ("SharedAccessKey", usable(self.key))]
        else:
            parts.append(("x509", "true"))
        return ";".join("{}={}".format(name, value) for name, value in parts if value)


def usable(key):
    """The key, or another wrong one: a key that is no key shows in callbacks, never in a constructor (revival §2.9)."""
    try:
        if 16 <= len(base64.b64decode(key, validate=True)) <= 64:
            return key
    except (binascii.Error, ValueError):
        pass
    return base64.b64encode(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()).decode("ascii")


def parts_of(text):
    """The parts of a connection string that mean something; others are passed over, as the original did."""
    found = {}
    for part in text.split(";"):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise Malformed("a part of the connection string is not Name=Value")
        if name in found:
            raise Malformed("`{}` occurs twice in the connection string".format(name))
        if name in _PARTS:
            found[name] = value
    return found


def from_connection_string(text):
    """The target of a connection string."""
    parts = parts_of(text)
    for name in ("HostName", "DeviceId"):
        if not parts.get(name):
            raise Malformed("`{}` is missing in the connection string".format(name))
    for name in ("x509", "UseProvisioning"):
        if parts.get(name, "true") != "true":
            raise Malformed("`{}` of the connection string can only be `true`".format(name))
    ways = [way for way in ("SharedAccessKey", "SharedAccessSignature", "x509", "UseProvisioning") if parts.get(way)]
    if len(ways) != 1:
        given = ", ".join(ways) or "none"
        raise Malformed("the connection string needs exactly one credential; it has: " + given)
    key = provisioned_key() if ways == ["UseProvisioning"] else parts.get("SharedAccessKey")
    return Target(
        parts["HostName"],
        parts["DeviceId"],
        module_id=parts.get("ModuleId"),
        gateway=parts.get("GatewayHostName"),
        key=key,
        policy=parts.get("SharedAccessKeyName"),
        token=parts.get("SharedAccessSignature"),
    )


def provisioned_key():
    """The key that stands in for a security module."""
    key = os.environ.get(DEVICE_KEY)
    if not key:
        raise Malformed("there is no security module here; put the device's key into " + DEVICE_KEY)
    return key


def from_config(transport, config):
    """The target of a configuration; its hub and that of the transport must be one."""
    if (config._hub_name, config._hub_suffix) != (transport._hub_name, transport._hub_suffix):
        raise Malformed("the transport and the configuration name different hubs")
    if bool(config._device_key) == bool(config._sas_token):
        raise Malformed("the configuration needs either a key or a token")
    return Target(
        "{}.{}".format(config._hub_name, config._hub_suffix),
        config._device_id,
        gateway=config._protocol_gateway_host or None,
        key=config._device_key or None,
        token=config._sas_token or None,
    )


def from_security_type(host, device_id, certificate):
    """The target of a provisioned device: its certificate is set as an option, its key comes from the environment."""
    return Target(host, device_id, key=None if certificate else provisioned_key())
