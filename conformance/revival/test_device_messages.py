"""Messages from the cloud to `iothub_client` (revival §2.7, §8.9)."""

import threading
import time
import urllib.parse

import pytest
from conftest import register
from hub import eventually
from iothub_client import (
    IoTHubClient,
    IoTHubClientConfirmationResult,
    IoTHubClientError,
    IoTHubClientResult,
    IoTHubMessage,
    IoTHubMessageContent,
    IoTHubMessageDispositionResult,
    IoTHubTransportProvider,
)
from watcher import Calls

MQTT = IoTHubTransportProvider.MQTT
ACCEPTED = IoTHubMessageDispositionResult.ACCEPTED


def send(device, body, properties=(), **system):
    """Sends to a device; system properties by their names in headers."""
    headers = {f"iothub-{name}": value for name, value in system.items()}
    if properties:
        headers["ostler-properties"] = urllib.parse.urlencode(dict(properties), quote_via=urllib.parse.quote)
    answer = device.hub.https.post(f"/ostler/v1/devices/{device.device_id}/messages", body, headers=headers)
    assert answer.status == 200, answer


def waiting(device):
    """How many messages the hub has for the device."""
    return device.hub.https.get(f"/devices/{device.device_id}").json["cloudToDeviceMessageCount"]


@pytest.mark.parametrize("provider", list(IoTHubTransportProvider.names.values()), ids=str)
def test_a_message_comes_with_its_properties(device, provider):
    client, received = IoTHubClient(device.connection_string, provider), Calls(answer=lambda *_: ACCEPTED)
    client.set_option("MinimumPollingTime", 2)
    client.set_message_callback(received, 5)
    properties = [("temperatureAlert", "false"), ("Größe", "a b&c"), ("empty", "")]
    send(device, "Zürich".encode(), properties, messageid="m-1", correlationid="c-1", ack="negative")
    message, context = received.next()
    assert context == 5
    assert message.get_content_type() is IoTHubMessageContent.BYTEARRAY
    assert message.get_bytearray()[:7].decode("utf-8") == "Zürich" and message.get_string() is None
    assert (message.message_id, message.correlation_id) == ("m-1", "c-1")
    assert message.properties().get_internals() == dict(properties)
    assert message.input_name is None
    eventually(lambda: waiting(device) == 0)
    assert abs(client.get_last_message_receive_time() - time.time()) < 10


def test_what_was_sent_while_the_device_was_away_comes_in_order(device):
    for number in range(20):
        send(device, str(number), [("n", str(number))])
    client, received = IoTHubClient(device.connection_string, MQTT), Calls(answer=lambda *_: ACCEPTED)
    with pytest.raises(IoTHubClientError) as nothing_yet:
        client.get_last_message_receive_time()
    assert nothing_yet.value.args[0].result == IoTHubClientResult.INDEFINITE_TIME
    client.set_message_callback(received, None)
    assert [received.next()[0].get_bytearray() for _ in range(20)] == [str(n).encode() for n in range(20)]
    eventually(lambda: waiting(device) == 0)


def test_any_bytes_come_as_they_are(device):
    client, received = IoTHubClient(device.connection_string, MQTT), Calls(answer=lambda *_: ACCEPTED)
    client.set_message_callback(received, None)
    for body in (b"\0\xff\0", b"", b"x" * 65_000):
        send(device, body)
        assert received.next()[0].get_bytearray() == body


@pytest.mark.parametrize("provider", [MQTT, IoTHubTransportProvider.AMQP], ids=str)
@pytest.mark.parametrize("disposition", list(IoTHubMessageDispositionResult.names.values()), ids=str)
def test_any_disposition_ends_the_message(device, provider, disposition):
    client, received = IoTHubClient(device.connection_string, provider), Calls(answer=lambda *_: disposition)
    client.set_message_callback(received, None)
    send(device, b"x")
    received.next()
    eventually(lambda: waiting(device) == 0)


def raises(*_):
    raise ValueError("the message callback's own mistake")


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda *_: None, "returned None, not an IoTHubMessageDispositionResult"),
        (lambda *_: 7, "returned 7, not"),
        (lambda *_: 1, None),
        (raises, "ValueError: the message callback"),
    ],
    ids=["None", "7", "1", "raises"],
)
def test_a_callback_that_misbehaves_is_told_and_survives(device, answer, said, capfd):
    client, received = IoTHubClient(device.connection_string, MQTT), Calls(answer=answer)
    client.set_message_callback(received, None)
    for body in (b"first", b"second"):
        send(device, body)
        assert received.next()[0].get_bytearray() == body
    client.set_message_callback(flush := Calls(answer=lambda *_: ACCEPTED), None)
    send(device, b"third")
    flush.next()
    error = capfd.readouterr().err
    assert error.count(said) == 2 if said else error == ""


def test_a_received_message_can_be_kept_and_sent_on(device):
    client, received, confirmed = IoTHubClient(device.connection_string, MQTT), Calls(lambda *_: ACCEPTED), Calls()
    client.set_message_callback(received, None)
    send(device, b"on", [("hop", "1")], messageid="m-1")
    message = received.next()[0]
    message.properties().add("second", "2")
    client.send_event_async(message, confirmed, 0)
    copy, result, _ = confirmed.next()
    assert result is IoTHubClientConfirmationResult.OK and copy.message_id == "m-1"
    assert copy.properties().get_internals() == {"hop": "1", "second": "2"}


def test_messages_wait_at_the_hub_while_a_callback_sleeps_and_others_are_not_held_up(device):
    """A callback of one client blocks the callbacks of that client, and nothing of another one."""
    slow, quick = IoTHubClient(device.connection_string, MQTT), register(device.hub)
    other, answered = IoTHubClient(quick.connection_string, MQTT), Calls(answer=lambda *_: ACCEPTED)
    awake = threading.Event()
    received = Calls(answer=lambda *_: awake.wait(60) and ACCEPTED)
    slow.set_message_callback(received, None)
    other.set_message_callback(answered, None)
    for number in range(3):
        send(device, str(number))
    received.next()
    send(quick, b"x")
    answered.next()
    assert received.none_waits()
    awake.set()
    assert [received.next()[0].get_bytearray() for _ in range(2)] == [b"1", b"2"]


def test_receiving_survives_a_restart_of_the_hub(own_hub):
    device = register(own_hub)
    client, received = IoTHubClient(device.connection_string, MQTT), Calls(answer=lambda *_: ACCEPTED)
    client.set_message_callback(received, None)
    send(device, b"before")
    assert received.next()[0].get_bytearray() == b"before"
    # Until the hub has heard of it, the message would rightly come again.
    eventually(lambda: waiting(device) == 0)
    own_hub.kill()
    own_hub.start()
    send(device, b"after")
    assert received.next(60)[0].get_bytearray() == b"after"


def test_a_message_is_forwarded_by_an_input_only_where_there_is_one(module):
    """The edge preview of 2017 registered inputs on `IoTHubClient`; a device has none and hears nothing on them."""
    client, confirmed = IoTHubClient(module.connection_string, MQTT), Calls()
    client.set_message_callback("input1", Calls(answer=lambda *_: ACCEPTED), 0)
    client.send_event_async("output1", IoTHubMessage("x"), confirmed, 0)
    assert confirmed.next()[1] is IoTHubClientConfirmationResult.OK
