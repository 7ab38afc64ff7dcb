"""Records what Azure's device SDKs (azure-iot-device of Python and of Node) and a hub say to each other over MQTT.

Run as `OSTLER_BIN=… python record_traffic.py` in this suite's environment, with the Node suite's packages installed: it
writes crates/ostler-device-sdk/tests/recordings anew. A recorder stands between device and hub and ends TLS, so what is
written are the bytes inside. The key is a fixed one made for this, and the hub lives no longer than the recording.
"""

import base64
import importlib.metadata
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.parse
from datetime import datetime, timedelta, timezone

from azure.iot.device import Message
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devices import Sync
from hub import REPOSITORY, Hub, LocalHub, Wire, eventually, free_loopback_address
from identities import Identity

HOST = "hub1.example.net"
KEY = base64.b64encode(bytes(range(32))).decode()
RECORDINGS = REPOSITORY / "crates" / "ostler-device-sdk" / "tests" / "recordings"
NODE = REPOSITORY / "conformance" / "node"
PUBACK, SUBSCRIBE, SUBACK = 4, 8, 9
# The conversation, on the device's side. traffic.mjs says the same.
REPORTED = {"firmware": {"version": "1.0", "slot": "a"}, "oldKey": None}
PROPERTIES = {"message_id": "id 1+/", "content_type": "application/json", "content_encoding": "utf-8"}


def packets(buffer):
    """Takes whole MQTT packets from the front of `buffer`."""
    while len(buffer) >= 2:
        length, shift, place = 0, 0, 1
        while place < len(buffer):
            length |= (buffer[place] & 127) << shift
            shift += 7
            place += 1
            if buffer[place - 1] < 128:
                break
        else:
            return
        if len(buffer) < place + length:
            return
        yield bytes(buffer[: place + length])
        del buffer[: place + length]


def readable(packet):
    def plain(place, byte):
        # A space at either end of a line would be lost sooner or later.
        return 32 <= byte < 127 and byte != 0x5C and not (byte == 32 and place in (0, len(packet) - 1))

    return "".join(chr(byte) if plain(place, byte) else f"\\x{byte:02x}" for place, byte in enumerate(packet))


class Recorder:
    """Ends TLS on both sides and writes down every packet before it is passed on."""

    def __init__(self, hub, address):
        self.hub = hub
        self.address = address
        self.lines = []
        self.packets = []
        self.rest = b""
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._certify()
        self._listener = socket.create_server((address, 8883))
        threading.Thread(target=self._accept, daemon=True).start()

    def _certify(self):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self.pem + text)
            file.flush()
            self.context.load_cert_chain(file.name)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            near = self.context.wrap_socket(near, server_side=True)
            upstream = ssl.create_default_context(cadata=self.hub.ca_pem)
            far = upstream.wrap_socket(socket.create_connection((self.hub.address, 8883)), server_hostname=HOST)
            for mark, source, sink in ((">", near, far), ("<", far, near)):
                threading.Thread(target=self._pump, args=(mark, source, sink), daemon=True).start()

    def _pump(self, mark, source, sink):
        buffer = bytearray()
        try:
            while chunk := source.recv(65536):
                buffer += chunk
                with self._lock:
                    for packet in packets(buffer):
                        self.lines.append(f"{mark} {readable(packet)}")
                        self.packets.append((mark, packet))
                sink.sendall(chunk)
        except OSError:
            pass
        self.rest += bytes(buffer)
        if mark == ">":
            self.ended.set()
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _of_kind(self, kind, mark):
        with self._lock:
            return [packet for seen, packet in self.packets if packet[0] >> 4 == kind and seen == mark]

    def subscribed(self, part):
        """Whether the hub has acknowledged every SUBSCRIBE, one with `part` among them."""
        asked = self._of_kind(SUBSCRIBE, ">")
        return any(part in packet for packet in asked) and len(self._of_kind(SUBACK, "<")) == len(asked)

    def acknowledged(self):
        return bool(self._of_kind(PUBACK, ">"))

    def close(self):
        self._listener.close()


class Service:
    """What happens on the other side of the hub, once the device has asked to hear of it."""

    def __init__(self, identity, recorder):
        self.identity = identity
        self.recorder = recorder

    def act(self, step):
        getattr(self, step)()

    def desired(self):
        eventually(lambda: self.recorder.subscribed(b"properties/desired/#"), what="the subscription")
        self.identity.patch_twin({"properties": {"desired": {"interval": 30, "mode": {"eco": True}, "gone": None}}})

    def method(self):
        eventually(lambda: self.recorder.subscribed(b"methods/POST/#"), what="the subscription")
        answer = self.identity.invoke("reboot", {"delay": 5})
        assert (answer.status, answer.payload) == (202, {"accepted": True}), answer

    def message(self):
        eventually(lambda: self.recorder.subscribed(b"devicebound/#"), what="the subscription")
        headers = {
            "iothub-messageid": "m:1", "iothub-correlationid": "c+1", "iothub-contenttype": "text/plain",
            "iothub-contentencoding": "utf-8", "iothub-ack": "full", "ostler-properties": "colour=r%C3%B6t%20%26%2B&empty=",
        }  # fmt: skip
        path = f"/ostler/v1/devices/{self.identity.device_id}/messages"
        answer = self.identity.hub.https.request("POST", path, body=b"open", headers=headers, api_version=None)
        assert answer.status == 200, answer.text
        eventually(self.recorder.acknowledged, what="the acknowledgement of the message")


def python(identity, service):
    device = Sync.create(identity, "connection_string")

    def meanwhile(step):
        thread = threading.Thread(target=service.act, args=(step,))
        thread.start()
        return thread

    device.connect()
    device.get_twin()
    device.report(REPORTED)
    device.watch_desired()
    acting = meanwhile("desired")
    device.next_desired()
    acting.join()
    device.on_method()
    acting = meanwhile("method")
    device.answer(device.next_method(), 202, {"accepted": True})
    acting.join()
    message = Message('{"celsius":21.5}', **PROPERTIES)
    message.custom_properties["k e"] = "v&=/+$~'"
    if identity.module_id:
        device.send_to_output(message, "alarms")
    else:
        device.send(message)
        device.watch_messages()
        acting = meanwhile("message")
        device.next_message()
        acting.join()
    device.shutdown()


def node(identity, service):
    environment = {
        **os.environ,
        "OSTLER_NAMES": json.dumps({HOST: service.recorder.address}),
        "TRAFFIC_CA": service.recorder.pem,
        "TRAFFIC_CONNECTION": identity.connection_string,
        "TRAFFIC_MODULE": identity.module_id or "",
    }
    child = subprocess.Popen(
        ["node", "traffic.mjs"], cwd=NODE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in child.stdout:
        service.act(line.strip())
        child.stdin.write("done\n")
        child.stdin.flush()
    assert child.wait() == 0


def node_sdk():
    def version(name):
        return json.loads((NODE / "node_modules" / name / "package.json").read_text())["version"]

    return f"azure-iot-device {version('azure-iot-device')}, azure-iot-device-mqtt {version('azure-iot-device-mqtt')} (Node)"


def record(name, sdk, converse, module_id):
    hub = LocalHub(name=HOST)
    recorder = Recorder(hub, free_loopback_address())
    authentication = {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
    with Wire(hub, ports=(443,), address=recorder.address):
        device = {"deviceId": "pump-7", "authentication": authentication}
        assert hub.https.put("/devices/pump-7", device).status == 200
        if module_id:
            path = f"/devices/pump-7/modules/{urllib.parse.quote(module_id)}"
            assert hub.https.put(path, {**device, "moduleId": module_id}).status == 200
        identity = Identity(hub, "pump-7", KEY, module_id)
        # The device trusts the recorder alone; the service's requests pass to the hub untouched.
        seen_by_device = Hub(hub.connection_string, recorder.pem)
        converse(Identity(seen_by_device, "pump-7", KEY, module_id), Service(identity, recorder))
        assert recorder.ended.wait(15), "the device leaves"
    assert not recorder.rest, "half a packet at the end"
    recorder.close()
    hub.stop()
    head = [
        f"# {sdk} as {identity.client_id}: what it says (>) and what the hub says (<), a packet a line.",
        "# \\xNN stands for a byte that is no printable character, or a backslash. Made by conformance/python/record_traffic.py.",
    ]
    RECORDINGS.mkdir(exist_ok=True)
    (RECORDINGS / f"{name}.txt").write_text("\n".join([*head, *recorder.lines]) + "\n")
    print(f"{name}: {len(recorder.lines)} packets")


if __name__ == "__main__":
    python_sdk = f"azure-iot-device {importlib.metadata.version('azure-iot-device')} (Python)"
    for sdk, converse, kind in ((python_sdk, python, "python"), (node_sdk(), node, "node")):
        record(f"{kind}-device", sdk, converse, None)
        record(f"{kind}-module", sdk, converse, "valve")
