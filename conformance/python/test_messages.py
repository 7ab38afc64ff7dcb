"""Cloud-to-device messages: what azure-iot-device receives, and what their sender hears of it.

They are sent over Ostler's own route, because Azure takes them over AMQP alone.
"""

import datetime
import uuid

import pytest
from azure.iot.hub import IoTHubHttpRuntimeManager

from devices import FACES
from hub import eventually
from judges import DEVICE_SDK, HTTPS, HUB_SDK, PAHO
from rawmqtt import Plain

operation = pytest.mark.operation
pytestmark = pytest.mark.local_only("messages are sent over a route of Ostler's own")

FEEDBACK = "/messages/serviceBound/feedback"


def send(identity, body=b"", **headers):
    """Sends over the extension; `app_colour="red"` becomes the header `iothub-app-colour`."""
    sent = {"iothub-" + name.replace("_", "-"): value for name, value in headers.items() if name != "bag"}
    if "bag" in headers:
        sent["ostler-properties"] = headers["bag"]
    path = f"/ostler/v1/devices/{identity.device_id}/messages"
    return identity.hub.https.request("POST", path, body=body, headers=sent, api_version=None)


def accepted(identity, body=b"", **headers):
    answer = send(identity, body, **headers)
    assert answer.status == 200, answer.text
    return answer.json


def outcomes(identity, count):
    """The next outcomes of a device's messages, completed; those of others are completed too."""
    found = []

    def enough():
        batch = identity.hub.https.get(FEEDBACK)
        if batch.status == 200:
            lock = batch.headers["ETag"].strip('"')
            assert identity.hub.https.delete(f"{FEEDBACK}/{lock}").status == 204
            found.extend(record for record in batch.json if record["deviceId"] == identity.device_id)
        return len(found) >= count

    eventually(enough, what=f"{count} outcomes")
    return found


def queued(identity):
    return identity.hub.registry.get_device(identity.device_id).cloud_to_device_message_count


def in_seconds(seconds):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---------------------------------------------------------------- to the device


@operation("cloud-to-device messages")
def test_body_and_every_property_arrive(device, connect, face):
    client = connect(device)
    client.watch_messages()
    expiry = in_seconds(600)
    accepted(
        device, "grüße\0".encode(), messageid="m-1:+%", correlationid="c 1+/", userid="u", contenttype="text/plain",
        contentencoding="utf-8", ack="full", expiry=expiry, bag="Colour=r%C3%B6t%20%26%2B&k%20e=v%3D&empty=",
    )  # fmt: skip
    message = client.next_message()
    assert message.data == "grüße\0".encode()
    assert (message.message_id, message.correlation_id, message.user_id) == ("m-1:+%", "c 1+/", "u")
    assert (message.content_type, message.content_encoding) == ("text/plain", "utf-8")
    assert message.ack == "full"
    assert message.expiry_time_utc.startswith(expiry[:19])
    assert message.custom_properties == {"Colour": "röt &+", "k e": "v=", "empty": ""}


@operation("cloud-to-device messages")
def test_messages_wait_for_the_device_and_come_in_order(device, connect, face):
    for number in range(20):
        accepted(device, str(number).encode())
    assert queued(device) == 20
    assert device.hub.registry.get_twin(device.device_id).cloud_to_device_message_count == 20
    client = connect(device)
    client.watch_messages()
    assert [client.next_message().data for _ in range(20)] == [str(number).encode() for number in range(20)]
    eventually(lambda: queued(device) == 0, what="the end of the queue")


@operation("cloud-to-device messages")
def test_a_message_sent_during_a_cut_comes_after_it(wire, device, connect, face):
    client = connect(device)
    client.watch_connection()
    client.watch_messages()
    accepted(device, b"before")
    assert client.next_message().data == b"before"
    # Until its acknowledgement has arrived, it would come again.
    eventually(lambda: queued(device) == 0, what="the end of the queue")
    wire.cut()
    accepted(device, b"meanwhile")
    client.wait_for_change()
    # The SDK does not subscribe again: the stored filter of its session counts.
    assert client.next_message().data == b"meanwhile"


@pytest.mark.sdk(DEVICE_SDK + " MQTT")
@operation("cloud-to-device messages")
def test_messages_survive_a_killed_hub(own_hub, new_device, connect):
    device = new_device(on=own_hub)
    for number in range(3):
        accepted(device, str(number).encode(), ack="positive", messageid=f"m-{number}")
    own_hub.kill()
    own_hub.start()
    client = connect(device, face=FACES[0])
    client.watch_messages()
    assert [client.next_message().data for _ in range(3)] == [b"0", b"1", b"2"]
    told = outcomes(device, 3)
    assert [(record["originalMessageId"], record["statusCode"]) for record in told] == [
        (f"m-{number}", "Success") for number in range(3)
    ]


@pytest.mark.sdk(PAHO)
@operation("cloud-to-device messages")
def test_without_acknowledgements_sent_is_done(device):
    accepted(device, b"x", ack="positive")
    client = Plain(device)
    assert client.connect()[0] == 0
    client.subscribe((f"devices/{device.device_id}/messages/devicebound/#", 0))
    topic, payload = client.next()
    assert payload == b"x"
    assert topic.startswith(f"devices/{device.device_id}/messages/devicebound/%24.mid=")
    assert "%24.to=%2Fdevices%2F" in topic and "iothub-ack=positive" in topic
    assert outcomes(device, 1)[0]["statusCode"] == "Success"
    client.close()


# ---------------------------------------------------------------- what the sender hears


@operation("feedback on messages")
def test_feedback_says_that_the_device_took_it(device, connect, face):
    client = connect(device)
    client.watch_messages()
    message_id = str(uuid.uuid4())
    accepted(device, b"x", messageid=message_id, ack="full")
    assert client.next_message().message_id == message_id
    record = outcomes(device, 1)[0]
    assert record["originalMessageId"] == message_id
    assert record["statusCode"] == record["description"] == "Success"
    assert record["deviceGenerationId"] == device.hub.registry.get_device(device.device_id).generation_id
    assert record["enqueuedTimeUtc"].endswith("Z")


@pytest.mark.sdk(HTTPS)
@operation("feedback on messages")
def test_feedback_says_that_it_expired(device):
    accepted(device, b"x", messageid="late", ack="negative", expiry=in_seconds(1))
    record = outcomes(device, 1)[0]
    assert (record["originalMessageId"], record["statusCode"]) == ("late", "Expired")
    assert queued(device) == 0


@pytest.mark.sdk(HTTPS)
@operation("feedback on messages")
def test_a_batch_is_locked_abandoned_and_completed(device):
    https = device.hub.https
    outcomes(device, 0)
    accepted(device, messageid="m", ack="full")
    https.delete(f"/devices/{device.device_id}/commands")
    batch = eventually(lambda: (answer := https.get(FEEDBACK)).status == 200 and answer, what="a batch")
    lock = batch.headers["ETag"]
    assert lock == f'"{lock[1:-1]}"'
    assert https.get(FEEDBACK).status == 204, "what is locked is nobody else's"
    assert https.post(f"{FEEDBACK}/{lock[1:-1]}/abandon").status == 204
    again = https.get(FEEDBACK)
    assert again.json == batch.json
    assert https.delete(f"{FEEDBACK}/{lock[1:-1]}").status == 412, "that lock has ended"
    assert https.delete(f"{FEEDBACK}/{again.headers['ETag'][1:-1]}").status == 204
    assert https.get(FEEDBACK).status == 204


@pytest.mark.sdk(HUB_SDK)
@operation("feedback on messages")
def test_the_service_sdk_reads_feedback(device):
    manager = IoTHubHttpRuntimeManager.from_connection_string(device.hub.connection_string)
    outcomes(device, 0)
    manager.receive_feedback_notification()
    accepted(device, messageid="m", ack="full")
    device.hub.https.delete(f"/devices/{device.device_id}/commands")
    batch = eventually(lambda: (answer := device.hub.https.get(FEEDBACK)).status == 200 and answer, what="a batch")
    manager.abandon_feedback_notification(batch.headers["ETag"][1:-1])
    again = device.hub.https.get(FEEDBACK)
    manager.complete_feedback_notification(again.headers["ETag"][1:-1])
    assert device.hub.https.get(FEEDBACK).status == 204


# ---------------------------------------------------------------- the queue


@pytest.mark.sdk(HTTPS)
@operation("message queues: limits and purge")
def test_fifty_wait_and_no_more(device):
    for _ in range(50):
        accepted(device)
    full = send(device)
    assert (full.status, full.error_code) == (403, "DeviceMaximumQueueDepthExceeded")
    purged = device.hub.https.delete(f"/devices/{device.device_id}/commands")
    assert (purged.status, purged.json) == (200, {"deviceId": device.device_id, "totalMessagesPurged": 50})
    accepted(device)
    assert queued(device) == 1


@pytest.mark.sdk(HTTPS)
@operation("message queues: limits and purge")
@pytest.mark.parametrize(
    "status,code,body,headers",
    [
        (413, "MessageTooLarge", b"x" * 65537, {}),
        (413, "MessageTooLarge", b"x" * 65536, {"app_k": "v"}),
        (403, "InvalidMessageExpiryTime", b"", {"expiry": "2000-01-01T00:00:00Z"}),
        (403, "InvalidMessageExpiryTime", b"", {"expiry": "9999-01-01T00:00:00Z"}),
        (400, "ArgumentInvalid", b"", {"expiry": "soon"}),
        (400, "ArgumentInvalid", b"", {"ack": "always"}),
        (400, "ArgumentInvalid", b"", {"messageid": "a b"}),
        (400, "ArgumentInvalid", b"", {"bag": "k=%00"}),
        (400, "ArgumentInvalid", b"", {"bag": "%24.mid=x"}),
    ],
)
def test_what_cannot_be_sent_is_refused(device, status, code, body, headers):
    answer = send(device, body, **headers)
    assert (answer.status, answer.error_code) == (status, code)
    assert queued(device) == 0


@pytest.mark.sdk(HTTPS)
@operation("message queues: limits and purge")
def test_the_largest_message_goes_through(device):
    accepted(device, b"x" * 65536)
    assert queued(device) == 1


@pytest.mark.sdk(HUB_SDK)
@operation("message queues: limits and purge")
def test_messages_go_with_their_device(device):
    accepted(device, messageid="m", ack="full")
    device.hub.registry.delete_device(device.device_id)
    assert outcomes(device, 1)[0]["statusCode"] == "Purged"
    assert send(device).status == 404


@pytest.mark.sdk(HTTPS)
@operation("message queues: limits and purge")
def test_queries_count_what_waits(device):
    for _ in range(3):
        accepted(device)
    text = f"SELECT deviceId FROM devices WHERE cloudToDeviceMessageCount = 3 AND deviceId = '{device.device_id}'"
    answer = device.hub.https.post("/devices/query", {"query": text})
    assert answer.json == [{"deviceId": device.device_id}]
