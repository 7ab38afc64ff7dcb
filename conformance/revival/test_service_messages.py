"""`IoTHubMessaging` against a hub (revival §3.5, §7; acceptance test 9, service part)."""

import time

import pytest
from iothub_client import IoTHubClient, IoTHubMessageDispositionResult, IoTHubTransportProvider
from iothub_service_client import (
    IoTHubFeedbackStatusCode,
    IoTHubMessage,
    IoTHubMessaging,
    IoTHubMessagingError,
    IoTHubMessagingResult,
)
from watcher import Calls

OK = IoTHubMessagingResult.OK


@pytest.fixture
def messaging(hub):
    made = IoTHubMessaging(hub.connection_string)
    yield made
    made.close()


def receiving(device):
    received = Calls(lambda message, context: IoTHubMessageDispositionResult.ACCEPTED)
    client = IoTHubClient(device.connection_string, IoTHubTransportProvider.MQTT)
    client.set_message_callback(received, 0)
    return client, received


def test_open_and_sent_have_their_context_first(device, messaging):
    opened, sent = Calls(), Calls()
    context = object()
    messaging.open(opened, context)
    assert opened.next() == (context,)
    for number in range(3):
        messaging.send_async(device.device_id, IoTHubMessage("text"), sent, number)
    for number in range(3):
        seen, result = sent.next()
        assert (seen, result) == (number, OK) and result is OK
    messaging.send_async(device.device_id + "-unknown", IoTHubMessage("text"), sent, None)
    assert sent.next() == (None, IoTHubMessagingResult.ERROR)
    assert len(sent.threads | opened.threads) == 1


def test_text_bytes_ids_and_properties_reach_the_device(device, messaging):
    client, received = receiving(device)
    messaging.open(Calls(), 0)
    text = IoTHubMessage("gr\u00fc\u00df")
    text.message_id, text.correlation_id = "message_1", "correlation-1"
    text.properties().add("colour", "red & blue")
    text.properties().add("Upper", " edges ")
    sent = Calls()
    messaging.send_async(device.device_id, text, sent, 0)
    # The message was copied: what happens to it now concerns nobody.
    text.properties().add_or_update("colour", "black")
    messaging.send_async(device.device_id, IoTHubMessage(bytearray(b"\0\xff")), sent, 0)
    message, _ = received.next()
    assert message.get_bytearray().decode() == "gr\u00fc\u00df"
    assert (message.message_id, message.correlation_id) == ("message_1", "correlation-1")
    assert message.properties().get_internals() == {"colour": "red & blue", "Upper": " edges "}
    assert received.next()[0].get_bytearray() == bytearray(b"\0\xff")
    # Programs that import both packages by name may hold the other one's message; some hold none at all.
    messaging.send_async(device.device_id, message, sent, 0)
    messaging.send_async(device.device_id, "text alone", sent, 0)
    again = received.next()[0]
    assert (again.get_bytearray(), again.message_id) == (message.get_bytearray(), "message_1")
    assert again.properties().get_internals() == message.properties().get_internals()
    assert received.next()[0].get_bytearray() == bytearray(b"text alone")
    assert client


def test_feedback(device, messaging):
    client, received = receiving(device)
    feedback = Calls()
    messaging.set_feedback_message_callback(feedback, "context")
    messaging.open(Calls(), 0)
    message = IoTHubMessage("x")
    message.message_id = device.device_id + "-1"
    message.properties().add("iothub-ack", "full")
    messaging.send_async(device.device_id, message, Calls(), 0)
    received.next()
    while True:
        context, user_id, lock_token, records = feedback.next()
        assert (context, user_id, lock_token) == ("context", "", "")
        mine = [record for record in records if record["deviceId"] == device.device_id]
        if mine:
            break
    assert len(mine) == 1 and set(mine[0]) == {
        "description",
        "deviceId",
        "correlationId",
        "generationId",
        "enqueuedTimeUtc",
        "statusCode",
        "originalMessageId",
    }
    assert mine[0]["statusCode"] == IoTHubFeedbackStatusCode.SUCCESS and type(mine[0]["statusCode"]) is int
    assert (mine[0]["description"], mine[0]["originalMessageId"]) == ("success", message.message_id)
    assert client


def test_misuse(device, messaging):
    def refused(operation, *arguments):
        with pytest.raises(IoTHubMessagingError) as caught:
            operation(*arguments)
        return str(caught.value)

    expected = "IoTHubMessaging.send_async, IoTHubMessagingResult.ERROR"
    arguments = (device.device_id, IoTHubMessage("x"), Calls(), 0)
    assert refused(messaging.send_async, *arguments) == expected
    messaging.close()
    messaging.open(Calls(), 0)
    assert refused(messaging.open, Calls(), 0) == "IoTHubMessaging.open, IoTHubMessagingResult.ERROR"
    messaging.close()
    assert refused(messaging.send_async, *arguments) == expected
    sent = Calls()
    messaging.open(Calls(), 0)
    messaging.send_async(device.device_id, IoTHubMessage("x"), sent, "again")
    assert sent.next() == ("again", OK)


def test_callbacks_may_raise_and_call_the_client(device, messaging, capfd):
    sent, closed = Calls(), Calls()

    def first(context, result):
        messaging.send_async(device.device_id, IoTHubMessage("x"), sent, "from the callback")
        raise ValueError("a mistake of the program")

    def last(context, result):
        messaging.close()
        closed(context)

    messaging.open(lambda context: 1 / 0, 0)
    messaging.send_async(device.device_id, IoTHubMessage("x"), first, 0)
    assert sent.next() == ("from the callback", OK)
    messaging.send_async(device.device_id, IoTHubMessage("x"), last, "closed")
    assert closed.next() == ("closed",)
    told = capfd.readouterr().err
    assert "ZeroDivisionError" in told and "a mistake of the program" in told


PROGRAM = """
import sys, time
from iothub_service_client import IoTHubMessage, IoTHubMessaging
messaging = IoTHubMessaging(sys.argv[1])
messaging.open(lambda context: print("open", context), 1)
for number in range(int(sys.argv[3])):
    messaging.send_async(sys.argv[2], IoTHubMessage("message %d" % number), lambda c, r: print("sent", c, r), number)
"""


@pytest.mark.parametrize("ending", ["time.sleep(1); messaging.close()", "messaging.close()", "", "del messaging"])
def test_what_was_handed_over_is_delivered_however_the_program_ends(hub, device, program, tmp_path, ending):
    script = tmp_path / "sender.py"
    script.write_text(PROGRAM + ending + "\n")
    code, out, err = program(script, hub.connection_string, device.device_id, 20).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["open 1"] + [f"sent {number} OK" for number in range(20)]
    client, received = receiving(device)
    bodies = [received.next()[0].get_bytearray().decode() for _ in range(20)]
    assert bodies == [f"message {number}" for number in range(20)]
    assert client


def test_a_hub_that_is_gone_does_not_hold_up_the_end(own_hub, program, tmp_path):
    script = tmp_path / "sender.py"
    script.write_text(PROGRAM)
    own_hub.kill()
    began = time.monotonic()
    code, out, err = program(script, own_hub.connection_string, "d", 500).finish(timeout=60)
    assert code == 0 and err == ""
    # Each message is answered for, if only to say that it was lost.
    assert out.count("sent ") == 500 and "OK" not in out
    assert time.monotonic() - began < 30


CLOSING = """
import sys, threading
from iothub_service_client import *
messaging = IoTHubMessaging(sys.argv[1])
closed = threading.Event()
def sent(context, result):
    if context == 0:
        messaging.close()
        closed.set()
    print(context, result, flush=True)
messaging.open(lambda context: None, 0)
for number in range(5):
    messaging.send_async(sys.argv[2], IoTHubMessage("x"), sent, number)
closed.wait()
"""


def test_a_program_that_closes_in_a_callback_and_ends_sends_the_rest(program, hub, device):
    code, out, err = program("-c", CLOSING, hub.connection_string, device.device_id).finish()
    assert (code, out.splitlines(), err) == (0, [f"{number} OK" for number in range(5)], "")


COLLECTED = """
import gc, sys
from iothub_service_client import IoTHubMessaging
from ostler_iothub import lifetime
messaging = IoTHubMessaging(sys.argv[1])
messaging.open(lambda context: None, 0)
messaging.itself = messaging
del messaging
with lifetime._lock:
    gc.collect()
print("collected")
"""


def test_messaging_may_be_collected_at_any_moment(program, hub):
    """The collector runs wherever a thread happens to be: here, where another worker is being listed."""
    assert program("-c", COLLECTED, hub.connection_string).finish() == (0, "collected\n", "")
