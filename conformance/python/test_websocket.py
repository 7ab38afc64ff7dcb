"""MQTT over WebSocket, frame by frame: what paho and the SDKs do not vary."""

import base64
import os
import socket
import struct

import pytest

from judges import PAHO
from rawmqtt import DEADLINE, connect_packet, packet, tls

operation = pytest.mark.operation
pytestmark = pytest.mark.sdk(PAHO)

BINARY, TEXT, CONTINUATION, CLOSE, PING, PONG = 2, 1, 0, 8, 9, 10


class Frames:
    """A client that writes its own frames."""

    def __init__(self, device, path="/$iothub/websocket", **headers):
        sent = {
            "Host": f"{device.hub.hostname}:443",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "mqtt",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        raw = socket.create_connection((device.hub.hostname, 443), timeout=DEADLINE)
        self.socket = tls(device).wrap_socket(raw, server_hostname=device.hub.hostname)
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value is not None)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        self.reader = self.socket.makefile("rb")
        self.status = int(self.reader.readline().split()[1])
        self.headers = {}
        while line := self.reader.readline().strip().decode():
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def body(self):
        return self.reader.read(int(self.headers["content-length"])).decode()

    def send(self, payload, opcode=BINARY, final=True, masked=True):
        mask = os.urandom(4) if masked else b""
        length = len(payload)
        size = bytes([length]) if length < 126 else b"\x7e" + struct.pack("!H", length)
        size = bytes([size[0] | (0x80 if masked else 0)]) + size[1:]
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if masked else payload
        self.socket.sendall(bytes([(0x80 if final else 0) | opcode]) + size + mask + data)

    def receive(self):
        """One frame as (opcode, payload), or None once the hub has closed."""
        head = self.reader.read(2)
        if len(head) < 2:
            return None
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.reader.read(2))
        return head[0] & 0x0F, self.reader.read(length)

    def closed(self):
        """True if the hub ends the connection, with or without a close frame."""
        try:
            while (frame := self.receive()) is not None:
                if frame[0] == CLOSE:
                    return True
        except OSError:
            pass
        return True


CONNACK = (BINARY, b"\x20\x02\x00\x00")


@operation("MQTT over WebSocket: handshake and frames")
@pytest.mark.parametrize("offered,chosen", [("mqtt", "mqtt"), ("MQTT", "MQTT"), ("AMQPWSB10, mqtt", "mqtt")])
def test_the_subprotocol_comes_back_as_it_was_offered(device, offered, chosen):
    with Frames(device, Sec_WebSocket_Protocol=offered) as frames:
        assert (frames.status, frames.headers["sec-websocket-protocol"]) == (101, chosen)
        frames.send(connect_packet(device))
        assert frames.receive() == CONNACK


@operation("MQTT over WebSocket: handshake and frames")
def test_the_path_may_carry_a_query_and_compression_is_not_agreed_to(device):
    path = "/$iothub/websocket?iothub-no-client-cert=true"
    with Frames(device, path, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits") as frames:
        assert frames.status == 101
        assert "sec-websocket-extensions" not in frames.headers
        frames.send(connect_packet(device))
        assert frames.receive() == CONNACK


@operation("MQTT over WebSocket: handshake and frames")
@pytest.mark.local_only("Azure speaks AMQP")
def test_amqp_is_refused_with_a_reason(device):
    with Frames(device, Sec_WebSocket_Protocol="AMQPWSB10") as frames:
        assert frames.status >= 400
        assert "not supported" in frames.body()


@operation("MQTT over WebSocket: handshake and frames")
@pytest.mark.parametrize(
    "headers",
    [{"Sec_WebSocket_Protocol": None}, {"Sec_WebSocket_Protocol": "chat"}, {"Sec_WebSocket_Version": "8"},
     {"Sec_WebSocket_Key": "short"}, {"Upgrade": None}],
    ids=str,
)  # fmt: skip
def test_broken_handshakes_are_refused(device, headers):
    with Frames(device, **headers) as frames:
        assert 400 <= frames.status < 500


@operation("MQTT over WebSocket: handshake and frames")
def test_packets_and_frames_need_not_align(device):
    both = connect_packet(device) + packet(0xC0, b"")
    with Frames(device) as frames:
        frames.send(both[:3])
        frames.send(both[3:50], final=False)
        frames.send(b"are you there?", PING)
        frames.send(both[50:], CONTINUATION)
        received = [frames.receive()]
        while sum(len(data) for opcode, data in received if opcode == BINARY) < 6:
            received.append(frames.receive())
    assert (PONG, b"are you there?") in received
    assert b"".join(data for opcode, data in received if opcode == BINARY) == b"\x20\x02\x00\x00\xd0\x00"


@operation("MQTT over WebSocket: handshake and frames")
@pytest.mark.parametrize("flaw", ["text", "unmasked", "reserved opcode", "stray continuation"])
def test_broken_frames_end_the_connection(device, flaw):
    with Frames(device) as frames:
        frames.send(connect_packet(device))
        assert frames.receive() == CONNACK
        ping = packet(0xC0, b"")
        {
            "text": lambda: frames.send(ping, TEXT),
            "unmasked": lambda: frames.send(ping, masked=False),
            "reserved opcode": lambda: frames.send(ping, 5),
            "stray continuation": lambda: frames.send(ping, CONTINUATION),
        }[flaw]()
        assert frames.closed()


@operation("MQTT over WebSocket: handshake and frames")
def test_a_close_frame_is_answered(device):
    with Frames(device) as frames:
        frames.send(connect_packet(device))
        assert frames.receive() == CONNACK
        frames.send(struct.pack("!H", 1000), CLOSE)
        assert frames.closed()
