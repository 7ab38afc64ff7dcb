"""MQTT without an IoT SDK: paho as a plain MQTT 3.1.1 client, and a bare socket for what paho would not send."""

import queue
import socket
import ssl
import struct
import threading

import paho.mqtt.client as paho

from tokens import sas_token

DEADLINE = 15.0
API_VERSION = "2021-04-12"


def username(identity, api_version=API_VERSION, host=None):
    bag = f"/?api-version={api_version}" if api_version else ""
    return f"{host or identity.hub.hostname}/{identity.client_id}{bag}"


def device_token(identity, **changes):
    return sas_token(**{"resource": identity.resource, "key": identity.key, **changes})


def tls(identity, certificate=None, maximum=None):
    context = ssl.create_default_context()
    if identity.hub.ca_pem:
        context.load_verify_locations(cadata=identity.hub.ca_pem)
    if certificate:
        context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    if maximum:
        context.maximum_version = maximum
    return context


class Plain:
    """One paho client that never reconnects by itself."""

    def __init__(self, identity, clean_session=True, client_id=None, protocol=paho.MQTTv311, certificate=None,
                 websockets=False, will=None, keep_alive=60, **credentials):  # fmt: skip
        self.identity = identity
        self.messages = queue.Queue()
        self.acks = queue.Queue()
        self.granted = queue.Queue()
        self.unsubscribed = queue.Queue()
        self.connack = queue.Queue()
        self.closed = threading.Event()
        self._keep_alive = keep_alive
        self._port = 443 if websockets else 8883
        client_id = identity.client_id if client_id is None else client_id
        transport = "websockets" if websockets else "tcp"
        self.paho = paho.Client(client_id, clean_session=clean_session, protocol=protocol, transport=transport)
        if websockets:
            self.paho.ws_set_options(path="/$iothub/websocket")
        self.paho.tls_set_context(tls(identity, certificate))
        password = credentials.get("password", None if certificate else device_token(identity))
        self.paho.username_pw_set(credentials.get("username", username(identity)), password)
        if will:
            self.paho.will_set(*will)
        self.paho.on_connect = lambda _c, _u, flags, code: self.connack.put((code, flags["session present"]))
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_publish = lambda _c, _u, mid: self.acks.put(mid)
        self.paho.on_subscribe = lambda _c, _u, _mid, granted: self.granted.put(list(granted))
        self.paho.on_unsubscribe = lambda _c, _u, mid: self.unsubscribed.put(mid)

    def connect(self):
        """Returns (return code, session present); the code is None if the hub closed without a CONNACK."""
        try:
            self.paho.connect(self.identity.hub.hostname, self._port, keepalive=self._keep_alive)
        except (OSError, ssl.SSLError, paho.WebsocketConnectionError):
            self.closed.set()
            return None, None
        threading.Thread(target=self._loop, daemon=True).start()
        while True:
            try:
                return self.connack.get(timeout=0.05)
            except queue.Empty:
                if self.closed.is_set() and self.connack.empty():
                    return None, None

    def _loop(self):
        while self.paho.loop(timeout=0.1) == paho.MQTT_ERR_SUCCESS:
            pass
        self.closed.set()

    def wait_closed(self, timeout=DEADLINE):
        assert self.closed.wait(timeout), f"the hub did not close the connection within {timeout} s"

    def subscribe(self, *filters):
        """Returns the granted QoS of each filter (128 = refused)."""
        self.paho.subscribe([(topic, qos) for topic, qos in filters])
        return self.granted.get(timeout=DEADLINE)

    def unsubscribe(self, topic):
        self.paho.unsubscribe(topic)
        return self.unsubscribed.get(timeout=DEADLINE)

    def publish(self, topic, payload=b"", qos=1, retain=False, wait=True):
        self.paho.publish(topic, payload, qos, retain)
        if qos and wait:
            self.acks.get(timeout=DEADLINE)

    def next(self, timeout=DEADLINE):
        message = self.messages.get(timeout=timeout)
        return message.topic, message.payload

    def request(self, topic, payload=b"", qos=0):
        """Publishes on a topic that ends in `?$rid=…` and returns (status, parameters, body) of the answer."""
        self.publish(topic, payload, qos)
        answer, body = self.next()
        prefix, _, status, parameters = answer.rsplit("/", 3)
        assert prefix == "$iothub/twin", answer
        return int(status), parameters, body

    def alive(self):
        """True if the hub still answers on this connection: a twin read comes back."""
        self.subscribe(("$iothub/twin/res/#", 0))
        return self.request("$iothub/twin/GET/?$rid=alive")[0] == 200

    def close(self):
        self.paho.disconnect()
        self.closed.wait(DEADLINE)

    def drop(self):
        """Ends the TCP connection without a DISCONNECT."""
        sock = self.paho.socket()
        sock.shutdown(socket.SHUT_RDWR)
        self.closed.wait(DEADLINE)


def mqtt_string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("!H", len(data)) + data


def packet(first_byte, body):
    length, digits = len(body), b""
    while True:
        digit, length = length % 128, length // 128
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([first_byte]) + digits + body


def connect_packet(identity, name="MQTT", level=4, flags=0xC2, keep_alive=60, user=None, password=None, client_id=None):
    body = mqtt_string(name) + bytes([level, flags]) + struct.pack("!H", keep_alive)
    body += mqtt_string(identity.client_id if client_id is None else client_id)
    if flags & 0x80:
        body += mqtt_string(username(identity) if user is None else user)
    if flags & 0x40:
        body += mqtt_string(device_token(identity) if password is None else password)
    return packet(0x10, body)


class Bare:
    """A TLS connection to the MQTT port and nothing on top."""

    def __init__(self, identity):
        raw = socket.create_connection((identity.hub.hostname, 8883), timeout=DEADLINE)
        self.socket = tls(identity).wrap_socket(raw, server_hostname=identity.hub.hostname)
        self.identity = identity

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """One packet as (first byte, body), or None once the hub has closed."""
        first = self._exactly(1)
        if first is None:
            return None
        length, shift = 0, 0
        while True:
            digit = self._exactly(1)
            if digit is None:
                return None
            length |= (digit[0] & 0x7F) << shift
            shift += 7
            if not digit[0] & 0x80:
                break
        return first[0], self._exactly(length) or b""

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                chunk = self.socket.recv(count - len(data))
            except (ConnectionError, ssl.SSLError):
                return None
            if not chunk:
                return None
            data += chunk
        return data

    def sign_in(self, **changes):
        self.send(connect_packet(self.identity, **changes))
        answer = self.receive()
        assert answer == (0x20, b"\x00\x00"), answer

    def closed_by_hub(self):
        """Reads until the hub closes; fails by the socket's timeout if it does not."""
        while self.receive() is not None:
            pass
        return True
