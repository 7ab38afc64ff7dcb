"""What the native client is made with: the options of a program and the environment (revival §2.8, §7).

Must not know: callbacks and threads.
"""

import os
import platform

from ._enums import IoTHubTransportProvider

#: Where devices find MQTT, if not on 8883.
MQTT_PORT = "OSTLER_MQTT_PORT"
#: The keep-alive of the original, in seconds (revival §2.7).
KEEP_ALIVE_SECS = 240
#: The longest that hubs take, in seconds.
LONGEST_KEEP_ALIVE_SECS = 1177
#: How long a token of ours lives, and may live, in seconds.
TOKEN_SECS = 3600
SHORTEST_TOKEN_SECS = 5
LONGEST_TOKEN_SECS = 365 * 24 * 3600
#: All that leave by way of port 443. HTTP programs chose it for that, so they ride on WebSocket.
WEB = frozenset(
    [IoTHubTransportProvider.HTTP, IoTHubTransportProvider.AMQP_WS, IoTHubTransportProvider.MQTT_WS]
)


def mqtt_port():
    """The port of MQTT, if the environment names one. Raises ValueError if what it names is none."""
    named = os.environ.get(MQTT_PORT)
    if not named:
        return None
    if not named.isdigit() or not 0 < int(named) < 65536:
        raise ValueError("{}={!r} is not a port number".format(MQTT_PORT, named))
    return int(named)


def product_info(own):
    """What the client says of itself at sign-in; a program's text takes the place of the first word."""
    system = "{}; {}".format(platform.system(), platform.machine())
    return "{} iothubclient/1.2.12 (native; {})".format(own or "python/1.4.6", system)


def settings_of(session):
    """The settings of a session, for the native half."""
    options = session.options
    web = session.provider in WEB
    settings = {
        "websocket": web,
        "product_info": product_info(options.get("product_info")),
        "keep_alive_secs": min(max(1, options.get("keepalive") or KEEP_ALIVE_SECS), LONGEST_KEEP_ALIVE_SECS),
        "mqtt_port": mqtt_port(),
        "trusted": options.get("TrustedCerts"),
        "certificate": options.get("x509certificate") or options.get("x509EccCertificate"),
        "private_key": options.get("x509privatekey") or options.get("x509EccAliasKey"),
        "token_lifetime_secs": min(max(SHORTEST_TOKEN_SECS, options.get("sas_token_lifetime") or TOKEN_SECS), LONGEST_TOKEN_SECS),
        "proxy": proxy(options) if web else None,
        "retry": None,
    }
    if session.retry is not None and not session.polls:
        policy, limit = session.retry
        settings["retry"] = (policy.name, limit)
    return {name: value for name, value in settings.items() if value is not None}


def proxy(options):
    """The proxy as (host, port, user, password), from either generation of options; None without one."""
    given = options.get("proxy_data")
    if given is not None:
        return (given.host_address, given.port, given.username or None, given.password or None)
    address = options.get("proxy_address")
    if not address:
        return None
    host, _, port = address.rpartition("//")[2].partition(":")
    return (host, int(port) if port.isdigit() else 0, options.get("proxy_username"), options.get("proxy_password"))
