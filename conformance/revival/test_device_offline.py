"""`iothub_client` without a hub: constructors, options, queues and their limits in time (revival §8.3, §8.7, §8.8)."""

import contextlib
import socket
import threading
import time

import pytest
from hub import eventually
from iothub_client import (
    IoTHubClient,
    IoTHubClientConfirmationResult,
    IoTHubClientRetryPolicy,
    IoTHubClientStatus,
    IoTHubConnectionStatus,
    IoTHubMessage,
    IoTHubTransportProvider,
)
from watcher import Calls

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
# An address of the documentation's own net: packets to it end nowhere.
NOWHERE = f"HostName=192.0.2.1;DeviceId=pump-7;SharedAccessKey={KEY}"
MQTT = IoTHubTransportProvider.MQTT


@pytest.fixture
def closed_port():
    """A host name (an address) at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"HostName=127.0.0.1:{held.getsockname()[1]};DeviceId=pump-7;SharedAccessKey={KEY}"


def test_constructor_options_and_status_take_milliseconds_for_an_unroutable_host():
    begun = time.monotonic()
    client = IoTHubClient(NOWHERE, MQTT)
    client.set_option("messageTimeout", 10000)
    assert client.get_send_status() is IoTHubClientStatus.IDLE
    assert client.protocol is MQTT
    client.send_event_async(IoTHubMessage(bytearray(b"x")), Calls(), None)
    client.set_device_twin_callback(Calls(), 0)
    # Whoever asked the network first would wait for a minute at least.
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("provider", list(IoTHubTransportProvider.names.values()), ids=str)
def test_a_message_that_cannot_leave_times_out_in_milliseconds(closed_port, provider):
    client = IoTHubClient(closed_port, provider)
    client.set_option("messageTimeout", 700)
    confirmed = Calls()
    begun = time.monotonic()
    client.send_event_async(IoTHubMessage("x"), confirmed, 5)
    assert client.get_send_status() is IoTHubClientStatus.BUSY
    _, result, context = confirmed.next()
    # As seconds they would be twelve minutes.
    assert time.monotonic() - begun >= 0.6
    assert result is IoTHubClientConfirmationResult.MESSAGE_TIMEOUT and context == 5
    assert client.get_send_status() is IoTHubClientStatus.IDLE


def test_without_the_option_messages_wait_and_are_destroyed_with_their_client(closed_port):
    client = IoTHubClient(closed_port, MQTT)
    confirmed, answered = Calls(), Calls()
    for number in range(3):
        client.send_event_async(IoTHubMessage("x"), confirmed, number)
    client.send_reported_state('{"a":1}', 7, answered, 9)
    assert client.get_send_status() is IoTHubClientStatus.BUSY
    assert confirmed.none_waits()
    del client
    for number in range(3):
        _, result, context = confirmed.next()
        assert result is IoTHubClientConfirmationResult.BECAUSE_DESTROY and context == number
    assert answered.next() == (408, 9)


def test_an_unreachable_hub_shows_in_the_status_callback_only(closed_port):
    client = IoTHubClient(closed_port, IoTHubTransportProvider.MQTT_WS)
    statuses = Calls()
    client.set_connection_status_callback(statuses, client)
    status, reason, context = statuses.next()
    assert status is IoTHubConnectionStatus.UNAUTHENTICATED and str(reason) == "NO_NETWORK"
    assert context is client


def test_a_client_that_is_only_constructed_never_connects():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = f"HostName=127.0.0.1:{port};DeviceId=pump-7;SharedAccessKey={KEY}"
        client = IoTHubClient(text, IoTHubTransportProvider.MQTT_WS)
        client.set_option("messageTimeout", 1000)
        client.get_send_status()
        other = IoTHubClient(text, IoTHubTransportProvider.MQTT_WS)
        other.get_retry_policy()
        # The first to come is the one that asked for something; the constructed one has not come before it.
        listener.settimeout(20)
        listener.accept()[0].close()
        assert client._session.started is False


def test_the_confirmation_has_a_copy(closed_port):
    client = IoTHubClient(closed_port, MQTT)
    client.set_option("messageTimeout", 200)
    confirmed = Calls()
    message = IoTHubMessage(bytearray(b"first"))
    message.message_id = "one"
    message.properties().add("n", "1")
    client.send_event_async(message, confirmed, None)
    message.message_id = "two"
    message.properties().add_or_update("n", "2")
    copy, _, context = confirmed.next()
    assert copy is not message and context is None
    assert (copy.get_bytearray(), copy.message_id) == (b"first", "one")
    assert copy.properties().get_internals() == {"n": "1"}


def test_an_option_that_comes_late_still_counts_for_the_first_connection(closed_port):
    """Nothing has connected yet, so the client begins anew; what was queued is neither lost nor doubled."""
    client = IoTHubClient(closed_port, MQTT)
    client.set_option("messageTimeout", 1000)
    confirmed = Calls()
    for number in range(20):
        client.send_event_async(IoTHubMessage("x"), confirmed, number)
        client.set_option("product_info", f"late-{number}")
    contexts = sorted(confirmed.next()[2] for _ in range(20))
    assert contexts == list(range(20)) and confirmed.none_waits()


def test_a_retry_policy_that_waits_for_nothing_leaves_the_machine_alone():
    """One attempt after the other, each broken off at once, for three seconds."""
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    attempts.append(time.monotonic())

        threading.Thread(target=refuse, daemon=True).start()
        text = f"HostName=127.0.0.1:{listener.getsockname()[1]};DeviceId=pump-7;SharedAccessKey={KEY}"
        client = IoTHubClient(text, IoTHubTransportProvider.MQTT_WS)
        client.set_retry_policy(IoTHubClientRetryPolicy.RETRY_IMMEDIATE, 0)
        eventually(lambda: attempts and time.monotonic() - attempts[0] > 3)
        assert 1 < len(attempts) < 100
