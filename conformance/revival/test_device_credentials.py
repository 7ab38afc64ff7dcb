"""How clients of `iothub_client` sign in besides with a key, and by which ways (revival §2.1, §2.2, §2.8)."""

import base64
import hashlib
import hmac
import http.server
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import urllib.parse

import pytest
from conftest import register
from hub import eventually
from iothub_client import (
    HttpProxyOptions,
    IoTHubClient,
    IoTHubClientConfirmationResult,
    IoTHubClientError,
    IoTHubConfig,
    IoTHubConnectionStatus,
    IoTHubMessage,
    IoTHubModuleClient,
    IoTHubSecurityType,
    IoTHubTransport,
    IoTHubTransportProvider,
    IoTHubTwinUpdateState,
)
from tokens import sas_token
from watcher import Calls

MQTT = IoTHubTransportProvider.MQTT
MQTT_WS = IoTHubTransportProvider.MQTT_WS


def signs_in(client):
    """Whether the hub lets the client in at its first attempt."""
    statuses = Calls()
    client.set_connection_status_callback(statuses, 0)
    return statuses.next()[0] is IoTHubConnectionStatus.AUTHENTICATED


def sends(client):
    confirmed = Calls()
    client.send_event_async(IoTHubMessage("x"), confirmed, 0)
    return confirmed.next()[1] is IoTHubClientConfirmationResult.OK


# ---------------------------------------------------------------- tokens and provisioning


def test_a_ready_made_token_in_the_connection_string(device):
    token = sas_token(f"{device.hub.hostname}/devices/{device.device_id}", device.key)
    text = f"HostName={device.hub.hostname};DeviceId={device.device_id};SharedAccessSignature={token}"
    assert sends(IoTHubClient(text, MQTT))


def test_a_ready_made_token_in_a_configuration(device):
    name, suffix = device.hub.hostname.split(".", 1)
    token = sas_token(f"{device.hub.hostname}/devices/{device.device_id}", device.key)
    config = IoTHubConfig(MQTT, device.device_id, "", token, name, suffix, "")
    assert sends(IoTHubClient(IoTHubTransport(MQTT, name, suffix), config))


def test_a_policy_key_in_the_connection_string(device):
    hub = device.hub
    text = f"HostName={hub.hostname};DeviceId={device.device_id};SharedAccessKeyName={hub.policy}"
    assert sends(IoTHubClient(f"{text};SharedAccessKey={hub.policy_key}", MQTT))


def test_a_provisioned_device_has_its_key_from_the_environment(device, monkeypatch):
    monkeypatch.setenv("OSTLER_DEVICE_KEY", device.key)
    assert sends(IoTHubClient(device.hub.hostname, device.device_id, IoTHubSecurityType.SAS, MQTT))
    text = f"HostName={device.hub.hostname};DeviceId={device.device_id};UseProvisioning=true"
    assert sends(IoTHubClient(text, MQTT))


# ---------------------------------------------------------------- certificates


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate, its key, and its thumbprint."""
    folder = tmp_path_factory.mktemp("x509")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pump-7 -keyout key.pem -out chain.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    chain, key = (folder / "chain.pem").read_text(), (folder / "key.pem").read_text()
    return chain, key, hashlib.sha1(ssl.PEM_cert_to_DER_cert(chain)).hexdigest().upper()


def test_a_certificate_comes_by_options(device, certificate):
    chain, key, thumbprint = certificate
    x509 = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": None}}
    device.change(authentication=x509)
    text = f"HostName={device.hub.hostname};DeviceId={device.device_id};x509=true"
    for provider in (MQTT, MQTT_WS):
        client = IoTHubClient(text, provider)
        with pytest.raises(IoTHubClientError, match="set_connection_status_callback, IoTHubClientResult.ERROR"):
            client.set_connection_status_callback(Calls(), 0)
        client.set_option("x509certificate", str(chain))
        client.set_option("x509privatekey", str(key))
        assert signs_in(client)


def test_certificate_options_are_refused_where_a_key_signs_in(device, certificate, capfd):
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_option("x509certificate", certificate[0])
    assert capfd.readouterr().out == "IoTHub Client SetOption failed with result: 1\n"
    assert sends(client)


def test_public_roots_by_option_take_nothing_away(device, certificate):
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_option("TrustedCerts", certificate[0])
    assert sends(client)


# ---------------------------------------------------------------- a proxy


class Tunnel(http.server.BaseHTTPRequestHandler):
    """CONNECT, as a company's proxy would have it."""

    def do_CONNECT(self):
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        host, port = self.path.rsplit(":", 1)
        far = socket.create_connection((host, int(port)))
        self.send_response(200)
        self.end_headers()
        back = threading.Thread(target=self.pump, args=(far, self.connection), daemon=True)
        back.start()
        self.pump(self.connection, far)

    @staticmethod
    def pump(source, sink):
        try:
            while True:
                chunk = source.recv(65536)
                if not chunk:
                    return
                sink.sendall(chunk)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tunnel) as server:
        server.asked, server.daemon_threads = [], True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("provider", [MQTT_WS, IoTHubTransportProvider.AMQP_WS, IoTHubTransportProvider.HTTP], ids=str)
def test_web_providers_go_through_a_proxy(device, proxy, provider):
    client = IoTHubClient(device.connection_string, provider)
    client.set_option("proxy_data", HttpProxyOptions("127.0.0.1", proxy.server_port, "user", "secret"))
    assert sends(client)
    expected = "Basic " + base64.b64encode(b"user:secret").decode()
    assert proxy.asked[0] == (f"{device.hub.hostname}:443", expected)


def test_older_names_of_the_proxy_options(device, proxy):
    client = IoTHubClient(device.connection_string, MQTT_WS)
    client.set_option("proxy_address", f"http://127.0.0.1:{proxy.server_port}")
    assert sends(client) and proxy.asked == [(f"{device.hub.hostname}:443", None)]


# ---------------------------------------------------------------- an edge module


class Workload(http.server.BaseHTTPRequestHandler):
    """The two answers of the edge runtime that a module needs, by its published interface."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked["keyId"], asked["algo"]))
        key, data = base64.b64decode(self.server.key), base64.b64decode(asked["data"])
        digest = hmac.new(key, data, hashlib.sha256).digest()
        self.answer({"digest": base64.b64encode(digest).decode()})

    def do_GET(self):
        self.server.asked.append((self.path,))
        self.answer({"certificate": self.server.trust_bundle})

    def answer(self, document):
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.mark.parametrize("scheme", ["unix", "http"])
def test_a_module_signs_in_by_the_workload_api(hub, module, tmp_path, monkeypatch, scheme):
    if scheme == "unix":
        server = UnixServer(str(tmp_path / "workload.sock"), Workload)
        uri = f"unix://{tmp_path}/workload.sock"
    else:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Workload)
        uri = f"http://127.0.0.1:{server.server_port}/"
    server.key, server.trust_bundle, server.asked = module.key, hub.ca_pem, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "IOTEDGE_AUTHSCHEME": "sasToken",
        "IOTEDGE_DEVICEID": module.device_id,
        "IOTEDGE_MODULEID": module.module_id,
        "IOTEDGE_IOTHUBHOSTNAME": hub.hostname,
        "IOTEDGE_GATEWAYHOSTNAME": hub.hostname,
        "IOTEDGE_WORKLOADURI": uri,
        "IOTEDGE_MODULEGENERATIONID": "636 1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OSTLER_CA_FILE")
    # Renewed every 1.6 s instead of every 48 min.
    monkeypatch.setattr("iothub_client._session.TOKEN_LIFETIME", 2)
    client, twin = IoTHubModuleClient(), Calls()
    client.create_from_environment(MQTT)
    client.set_module_twin_callback(twin, 0)
    assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE
    generation = urllib.parse.quote("636 1")
    sign = f"/modules/valve/genid/{generation}/sign?api-version=2018-06-28"
    eventually(lambda: [entry[0] for entry in server.asked].count(sign) >= 3, what="the token's second renewal")
    assert server.asked[0] == (sign, "primary", "HMACSHA256")
    server.shutdown()
    server.server_close()
    monkeypatch.setenv("IOTEDGE_WORKLOADURI", "unix:///nowhere/workload.sock")
    with pytest.raises(IoTHubClientError, match="IoTHubClient.IoTHubClient, IoTHubClientResult.ERROR"):
        IoTHubModuleClient().create_from_environment(MQTT)


def test_a_module_calls_a_method_and_hears_what_became_of_it(module):
    """A hub lets back ends call methods and no modules; a gateway at the edge would let this one."""
    client, answered = IoTHubModuleClient(module.connection_string, MQTT), Calls()
    client.invoke_method_async(module.device_id, module.module_id, "turn", "{}", 10, answered, "context")
    client.invoke_method_async(module.device_id, "turn", "{}", 10, answered, "context")
    for _ in range(2):
        response, context = answered.next()
        assert context == "context" and response.result != 0
        assert (response.responseStatus, response.responsePayload) == (0, "")


# ---------------------------------------------------------------- ports


def test_the_mqtt_port_comes_from_the_environment(device, monkeypatch):
    monkeypatch.setenv("OSTLER_MQTT_PORT", "1")
    assert not signs_in(IoTHubClient(device.connection_string, MQTT))
    assert signs_in(IoTHubClient(device.connection_string, MQTT_WS))
    monkeypatch.setenv("OSTLER_MQTT_PORT", "8883")
    assert signs_in(IoTHubClient(device.connection_string, MQTT))


def test_the_port_of_the_connection_string_is_that_of_the_web(hub):
    device = register(hub)
    text = device.connection_string.replace(hub.hostname, hub.hostname + ":443")
    for provider in (MQTT, MQTT_WS):
        assert signs_in(IoTHubClient(text, provider))


def test_options_of_a_certificate_never_raise(device, certificate, capfd):
    """A new pair comes one half after the other, and may be no pair for good."""
    chain, key, _ = certificate
    text = f"HostName=192.0.2.1;DeviceId={device.device_id};x509=true"
    client = IoTHubClient(text, IoTHubTransportProvider.MQTT)
    client.set_option("x509certificate", chain)
    client.set_option("x509privatekey", key)
    client.set_connection_status_callback(Calls(), 0)
    client.set_option("x509privatekey", "no key at all")
    assert "IoTHub Client SetOption failed with result: 2" in capfd.readouterr().out
    client.set_option("x509privatekey", key)
    assert capfd.readouterr().out == ""
