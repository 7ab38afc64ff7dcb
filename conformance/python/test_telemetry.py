"""What becomes of telemetry: seen in the hub's live stream, because nothing of Azure's reads it back yet."""

import contextlib
import http.client
import json
import time
import uuid

import pytest
from azure.iot.device import Message

from judges import PAHO
from rawmqtt import DEADLINE, Bare, Plain, mqtt_string, packet

operation = pytest.mark.operation
pytestmark = pytest.mark.local_only("the live stream is a route of Ostler's own")


class LiveStream:
    """`GET /ostler/v1/events`, one JSON object a line."""

    def __init__(self, hub, device_id, types="telemetry"):
        self.connection = http.client.HTTPSConnection(hub.hostname, 443, context=hub.https.context(), timeout=30)
        path = f"/ostler/v1/events?types={types}&deviceId={device_id}"
        self.connection.request("GET", path, headers={"Authorization": hub.https.token()})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["Content-Type"].startswith("application/x-ndjson")

    def next(self):
        deadline = time.monotonic() + DEADLINE
        while not (line := self.response.readline().strip()):
            assert time.monotonic() < deadline, "the stream lives, but nothing came"
        return json.loads(line)


@pytest.fixture
def live():
    with contextlib.ExitStack() as stack:

        def open_stream(identity, types="telemetry"):
            stream = LiveStream(identity.hub, identity.device_id, types)
            stack.callback(stream.connection.close)
            return stream

        yield open_stream


@operation("telemetry")
def test_body_and_every_property_arrive_decoded(live, device, connect, face):
    stream = live(device)
    client = connect(device)
    message = Message(json.dumps({"grüße": 21.5}), content_type="application/json", content_encoding="utf-8")
    message.message_id = str(uuid.uuid4())
    message.correlation_id = "c 1+/"
    message.user_id = "u&=%"
    message.custom_properties["k e"] = "v&=/+$~'"
    message.custom_properties["empty"] = ""
    client.send(message)
    event = stream.next()
    assert (event["type"], event["deviceId"]) == ("telemetry", device.device_id)
    assert event["body"] == {"grüße": 21.5}
    assert event["properties"] == {"k e": "v&=/+$~'", "empty": ""}
    system = event["systemProperties"]
    assert system["message-id"] == message.message_id
    assert system["correlation-id"] == "c 1+/"
    assert system["user-id"] == "u&=%"
    assert system["content-type"] == "application/json"
    assert system["content-encoding"] == "utf-8"


@operation("telemetry")
def test_an_output_of_a_module_names_both(live, new_module, connect, face):
    module = new_module()
    stream = live(module)
    connect(module).send_to_output(Message("x"), "alerts")
    event = stream.next()
    assert (event["deviceId"], event["moduleId"]) == (module.device_id, module.module_id)
    assert "alerts" in event["systemProperties"].values()


BAGS = {
    "%24.mid=id%201%2B%2F&k%20e=v%26%3D%2F%2B%24~'": {"k e": "v&=/+$~'"},
    "?a=b": {"a": "b"},
    "a=b/": {"a": "b"},
    "flag": {"flag": None},
    "a=%zz": {"a": "%zz"},
    "a=1&a=2": {"a": "2"},
    "": {},
}


@pytest.mark.sdk(PAHO)
@operation("telemetry")
def test_property_bags_are_read_as_the_clients_mean_them(live, device):
    stream = live(device)
    with Bare(device) as bare:
        bare.sign_in()
        for number, bag in enumerate(BAGS, 1):
            topic = mqtt_string(f"devices/{device.device_id}/messages/events/{bag}")
            bare.send(packet(0x32, topic + number.to_bytes(2, "big") + b"\xff\x00"))
        seen = [stream.next() for _ in BAGS]
    assert [event["properties"] for event in seen] == list(BAGS.values())
    assert {event["bodyBase64"] for event in seen} == {"/wA="}


@pytest.mark.sdk(PAHO)
@operation("MQTT: will")
def test_a_will_is_sent_when_the_connection_breaks_and_not_when_it_ends(live, device):
    stream = live(device)
    topic = f"devices/{device.device_id}/messages/events/"
    will = (topic + "reason=gone", b"bye", 1, True)
    polite = Plain(device, will=will)
    polite.connect()
    polite.close()
    rude = Plain(device, will=will)
    rude.connect()
    rude.publish(topic, b"first")
    rude.drop()
    assert stream.next()["bodyText"] == "first"
    event = stream.next()
    assert event["bodyText"] == "bye"
    assert event["properties"]["reason"] == "gone"
    assert event["properties"]["iothub-MessageType"] == "Will"
    assert event["properties"]["mqtt-retain"] == "true"


@pytest.mark.sdk(PAHO)
@operation("MQTT: will")
def test_a_takeover_sends_the_will_of_the_loser(live, device):
    stream = live(device)
    will = (f"devices/{device.device_id}/messages/events/", b"pushed out", 0, False)
    first, second = Plain(device, will=will), Plain(device)
    first.connect()
    second.connect()
    assert stream.next()["bodyText"] == "pushed out"
    second.close()


@pytest.mark.sdk(PAHO)
@operation("takeover")
def test_the_live_stream_tells_why_a_connection_ended(live, device):
    stream = live(device, "connection")
    first, second = Plain(device), Plain(device)
    first.connect()
    second.connect()
    events = [stream.next() for _ in range(3)]
    assert sorted(event["operation"] for event in events) == ["connected", "connected", "disconnected"]
    ended = next(event for event in events if event["operation"] == "disconnected")
    assert "tak" in ended["reason"].lower()
    second.close()
