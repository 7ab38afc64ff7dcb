"""`iothub_client` against a hub: twins, methods, telemetry, status (revival §8.3, §8.5–8.7, §8.9)."""

import json
import threading
import time

import pytest
from conftest import register
from hub import eventually, new_key
from iothub_client import (
    DeviceMethodReturnValue,
    IoTHubClient,
    IoTHubClientConfirmationResult,
    IoTHubClientConnectionStatusReason,
    IoTHubClientError,
    IoTHubClientRetryPolicy,
    IoTHubClientStatus,
    IoTHubConfig,
    IoTHubConnectionStatus,
    IoTHubDeviceClient,
    IoTHubMessage,
    IoTHubModuleClient,
    IoTHubTransport,
    IoTHubTransportProvider,
    IoTHubTwinUpdateState,
)
from watcher import Calls

MQTT = IoTHubTransportProvider.MQTT
HTTP = IoTHubTransportProvider.HTTP
WITH_TWINS = [provider for provider in IoTHubTransportProvider.names.values() if provider is not HTTP]
OK = IoTHubClientConfirmationResult.OK


def respond(status, response):
    """A method callback that answers so."""

    def answer(_name, _payload, _context):
        value = DeviceMethodReturnValue()
        value.response, value.status = response, status
        return value

    return answer


# ---------------------------------------------------------------- telemetry


@pytest.mark.parametrize("provider", list(IoTHubTransportProvider.names.values()), ids=str)
def test_messages_are_confirmed_by_every_provider(device, provider):
    client = IoTHubClient(device.connection_string, provider)
    assert client.protocol is provider
    confirmed = Calls()
    message = IoTHubMessage(bytearray('{"t":1}', "utf8"))
    message.message_id, message.correlation_id = "message_1", "correlation_1"
    message.properties().add("temperatureAlert", "false")
    client.send_event_async(message, confirmed, 7)
    copy, result, context = confirmed.next()
    assert (result, context, copy.message_id) == (OK, 7, "message_1")
    assert result is OK
    eventually(lambda: client.get_send_status() is IoTHubClientStatus.IDLE)


@pytest.mark.parametrize("context", [0, None, "self", "client"])
def test_contexts_come_back_as_they_were(device, context):
    client, confirmed = IoTHubClient(device.connection_string, MQTT), Calls()
    given = {"self": confirmed, "client": client}.get(context, context)
    client.send_event_async(IoTHubMessage("x"), confirmed, given)
    assert confirmed.next()[2] is given


def test_a_burst_with_link_drops_confirms_each_message_once(own_hub):
    device = register(own_hub)
    client, confirmed = IoTHubClient(device.connection_string, MQTT), Calls()
    for number in range(10_000):
        client.send_event_async(IoTHubMessage(bytearray(b"x" * 100)), confirmed, number)
        if number == 2_000:
            assert confirmed.next()[1] is OK
    dropped = 0
    for seen in range(10_000 - 1):
        assert confirmed.next()[1] is OK
        if seen in (1_000, 5_000):
            dropped += own_hub.wire.cut()
    assert dropped >= 1
    assert confirmed.none_waits() and confirmed.count == 10_000


# ---------------------------------------------------------------- status


def test_status_of_a_good_connection(device):
    client, statuses = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_connection_status_callback(statuses, client)
    status, reason, context = statuses.next()
    assert status is IoTHubConnectionStatus.AUTHENTICATED
    assert reason is IoTHubClientConnectionStatusReason.CONNECTION_OK
    assert context is client


@pytest.mark.parametrize("key", [new_key(), "not base64"], ids=["well-formed", "not base64"])
def test_a_wrong_key_shows_in_callbacks_only(hub, device, key):
    text = device.hub.device_connection_string(device.device_id, key)
    client, statuses, confirmed = IoTHubClient(text, MQTT), Calls(), Calls()
    client.set_option("messageTimeout", 1500)
    client.set_connection_status_callback(statuses, 0)
    client.send_event_async(IoTHubMessage("x"), confirmed, 0)
    status, reason, _ = statuses.next()
    assert status is IoTHubConnectionStatus.UNAUTHENTICATED
    assert str(reason) in ("DEVICE_DISABLED", "BAD_CREDENTIAL")
    assert confirmed.next()[1] is IoTHubClientConfirmationResult.MESSAGE_TIMEOUT


def test_a_hub_that_is_not_trusted_shows_in_callbacks_only(device, monkeypatch):
    monkeypatch.delenv("OSTLER_CA_FILE")
    client, statuses = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_connection_status_callback(statuses, 0)
    assert [str(value) for value in statuses.next()[:2]] == ["UNAUTHENTICATED", "NO_NETWORK"]
    assert client.get_send_status() is IoTHubClientStatus.IDLE


def test_a_disabled_device_comes_back_when_it_is_enabled(hub):
    device = register(hub, status="disabled")
    client, statuses = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_connection_status_callback(statuses, 0)
    assert str(statuses.next()[1]) == "DEVICE_DISABLED"
    device.change(status="enabled")
    assert statuses.next(60)[0] is IoTHubConnectionStatus.AUTHENTICATED


def test_a_token_is_renewed_and_the_renewal_is_told(device):
    """At four fifths of its life: the program hears that it expired, that it is in again, and the whole twin."""
    client, statuses, twin, confirmed = IoTHubClient(device.connection_string, MQTT), Calls(), Calls(), Calls()
    client.set_option("sas_token_lifetime", 5)
    client.set_connection_status_callback(statuses, 0)
    client.set_device_twin_callback(twin, 0)
    for number in range(2):
        assert [str(value) for value in statuses.next()[:2]] == ["AUTHENTICATED", "CONNECTION_OK"]
        assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE
        client.send_event_async(IoTHubMessage("x"), confirmed, number)
        assert [str(value) for value in statuses.next()[:2]] == ["UNAUTHENTICATED", "EXPIRED_SAS_TOKEN"]
    assert [confirmed.next()[1:] for _ in range(2)] == [(OK, 0), (OK, 1)]


def test_a_retry_policy_with_a_limit_ends_the_attempts(own_hub):
    device = register(own_hub)
    client, statuses = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_connection_status_callback(statuses, 0)
    assert statuses.next()[0] is IoTHubConnectionStatus.AUTHENTICATED
    client.set_retry_policy(IoTHubClientRetryPolicy.RETRY_INTERVAL, 1)
    own_hub.kill()
    own_hub.wire.cut()
    reasons = []
    while "RETRY_EXPIRED" not in reasons:
        reasons.append(str(statuses.next()[1]))
    assert reasons[0] == "NO_NETWORK"


# ---------------------------------------------------------------- twin


@pytest.mark.parametrize("provider", WITH_TWINS, ids=str)
def test_the_whole_twin_comes_first_and_then_patches(device, provider):
    device.patch_desired({"interval": 5})
    client, twin = IoTHubClient(device.connection_string, provider), Calls()
    client.set_device_twin_callback(twin, 3)
    state, text, context = twin.next()
    assert state is IoTHubTwinUpdateState.COMPLETE and "%s" % state == "COMPLETE" and context == 3
    document = json.loads(text)
    assert document["desired"]["interval"] == 5 and document["desired"]["$version"] == 2
    assert document["reported"]["$version"] == 1
    device.patch_desired({"interval": None, "door": {"locked": True}})
    state, text, _ = twin.next()
    assert state is IoTHubTwinUpdateState.PARTIAL
    assert text == '{"interval":null,"door":{"locked":true},"$version":3}'
    assert list(json.loads(text))[-1] == "$version"


def test_the_whole_twin_comes_again_after_a_cut_and_after_a_restart_of_the_hub(own_hub):
    device = register(own_hub)
    client, twin = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_device_twin_callback(twin, 0)
    assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE
    device.patch_desired({"n": 1})
    assert twin.next()[0] is IoTHubTwinUpdateState.PARTIAL
    assert own_hub.wire.cut() >= 1
    assert twin.next(60)[0] is IoTHubTwinUpdateState.COMPLETE
    own_hub.kill()
    own_hub.start()
    state, text, _ = twin.next(60)
    assert state is IoTHubTwinUpdateState.COMPLETE and json.loads(text)["desired"]["n"] == 1


def test_reported_properties_may_be_sent_before_there_is_a_connection(device):
    client, answered = IoTHubClient(device.connection_string, MQTT), Calls()
    state = '{"firmwareStatus":"standBy", "logTime":"2017-06-01 10:00:00"}'
    client.send_reported_state(state, len(state), answered, "context")
    assert answered.next() == (204, "context")
    assert device.twin()["properties"]["reported"]["firmwareStatus"] == "standBy"


@pytest.mark.parametrize(
    "text, size, status",
    [
        ('{"name":"Zürich, größer"}', None, 204),
        ('{"a":1} and more', 7, 204),
        ('{"name":"x"}', 5, 400),
        ("[]", 2, 400),
        ('{"$bad":1}', None, 400),
    ],
)
def test_sizes_of_reported_properties(device, text, size, status):
    client, answered = IoTHubClient(device.connection_string, MQTT), Calls()
    client.send_reported_state(text, len(text) if size is None else size, answered, 0)
    assert answered.next() == (status, 0)


def test_reported_properties_may_be_sent_in_the_twin_callback(device):
    client, answered = IoTHubClient(device.connection_string, MQTT), Calls()

    def react(_state, payload, context):
        interval = json.loads(payload)["desired"].get("interval")
        text = json.dumps({"interval": interval})
        context.send_reported_state(text, len(text), answered, 0)

    device.patch_desired({"interval": 42})
    client.set_device_twin_callback(react, client)
    assert answered.next() == (204, 0)
    assert device.twin()["properties"]["reported"]["interval"] == 42


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("payload", ["10", '"10"', "null", '"Zürich ☕"', '{"a":[1,2.50,1e3],"b":"x"}', '"' + "x" * 100_000 + '"'])
def test_payloads_of_methods_are_handed_through(device, payload):
    calls = Calls(answer=lambda name, text, context: respond(200, json.dumps({"got": text}))(name, text, context))
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_device_method_callback(calls, 4)
    answer = device.invoke("SetTelemetryInterval", payload)
    assert answer.status == 200, answer
    assert calls.next() == ("SetTelemetryInterval", payload, 4)
    assert answer.json == {"status": 200, "payload": {"got": payload}}


def test_answers_of_methods_are_handed_through(device):
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_device_method_callback(respond(404, '{ "Response": "not defined" }'), 0)
    answer = device.invoke("nothing")
    assert answer.status == 200 and answer.json == {"status": 404, "payload": {"Response": "not defined"}}


def broken(*_):
    raise ValueError("this is the callback's own mistake")


@pytest.mark.parametrize(
    "callback", [lambda *_: None, lambda *_: "text", respond(200, ""), broken], ids=["None", "text", "empty", "raises"]
)
def test_a_method_without_an_answer_is_the_invokers_timeout(device, callback, capfd):
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_device_method_callback(callback, 0)
    begun = time.monotonic()
    assert device.invoke("silent", response_timeout=5).status == 504
    assert time.monotonic() - begun >= 4.5
    assert ("own mistake" in capfd.readouterr().err) is (callback is broken)


@pytest.mark.parametrize("callback, status", [(lambda *_: None, 501), (broken, 500)], ids=["None", "raises"])
def test_methods_without_an_answer_can_be_answered_at_once(device, monkeypatch, callback, status):
    monkeypatch.setenv("OSTLER_ANSWER_UNHANDLED", "1")
    client = IoTHubClient(device.connection_string, MQTT)
    client.set_device_method_callback(callback, 0)
    assert device.invoke("silent", response_timeout=60).json == {"status": status, "payload": None}


def test_method_calls_can_be_answered_later(device):
    client, calls = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_device_method_callback_ex(calls, 1)
    answers = []
    invoker = threading.Thread(target=lambda: answers.append(device.invoke("later", "1")))
    invoker.start()
    name, payload, method_id, context = calls.next()
    assert (name, payload, context) == ("later", "1", 1)
    response = '{"done":true}'
    client.device_method_response(method_id, response, len(response), 201)
    invoker.join()
    assert answers[0].json == {"status": 201, "payload": {"done": True}}
    with pytest.raises(IoTHubClientError, match="device_method_response"):
        client.device_method_response(method_id, response, len(response), 201)


# ---------------------------------------------------------------- threads


def test_a_callback_that_sleeps_keeps_the_connection_and_delays_other_callbacks_only(device):
    """As the reboot tutorial does: report, sleep for longer than the keep-alive allows, then answer.

    The hub gives a silent client one and a half times its keep-alive. The callback sleeps until the rest has been looked
    at, however long that takes.
    """
    client, confirmed, statuses = IoTHubClient(device.connection_string, MQTT), Calls(), Calls()
    client.set_option("keepalive", 8)
    client.set_connection_status_callback(statuses, 0)
    assert statuses.next()[0] is IoTHubConnectionStatus.AUTHENTICATED
    reported, awake = Calls(), threading.Event()

    def reboot(name, payload, context):
        text = '{"rebootTime":"2017-06-01 10:00:00.000000"}'
        context.send_reported_state(text, len(text), reported, 0)
        assert awake.wait(240)
        return respond(200, '{"Response":"rebooted"}')(name, payload, context)

    client.set_device_method_callback(reboot, client)
    answers = []
    invoker = threading.Thread(target=lambda: answers.append(device.invoke("reboot", response_timeout=300)))
    invoker.start()
    try:
        eventually(lambda: "rebootTime" in device.twin()["properties"]["reported"], 60)
        client.send_event_async(IoTHubMessage("x"), confirmed, 0)
        eventually(lambda: client.get_send_status() is IoTHubClientStatus.IDLE, 60)
        time.sleep(14)
        assert confirmed.none_waits() and reported.none_waits()
        assert device.connected()
    finally:
        awake.set()
    invoker.join()
    assert answers[0].json == {"status": 200, "payload": {"Response": "rebooted"}}
    assert reported.next() == (204, 0) and confirmed.next()[1] is OK
    assert statuses.none_waits()


def test_all_callbacks_of_a_client_come_on_one_thread(device):
    client = IoTHubClient(device.connection_string, MQTT)
    twin, methods, confirmed = Calls(), Calls(answer=respond(200, "{}")), Calls()
    client.set_device_twin_callback(twin, 0)
    client.set_device_method_callback(methods, 0)
    client.send_event_async(IoTHubMessage("x"), confirmed, 0)
    twin.next(), confirmed.next()
    device.invoke("any")
    assert len(twin.threads | methods.threads | confirmed.threads) == 1


def test_a_callback_that_raises_is_printed_and_the_next_one_comes(device, capfd):
    client, confirmed = IoTHubClient(device.connection_string, MQTT), Calls()
    client.send_event_async(IoTHubMessage("x"), broken, 0)
    client.send_event_async(IoTHubMessage("x"), confirmed, 0)
    assert confirmed.next()[1] is OK
    error = capfd.readouterr().err
    assert "Traceback" in error and "own mistake" in error


# ---------------------------------------------------------------- other clients


def test_a_device_client_of_2018(device):
    client, twin = IoTHubDeviceClient(device.connection_string, MQTT), Calls()
    client.set_device_twin_callback(twin, 0)
    assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE


def test_a_module_has_its_own_twin_and_methods(module):
    client, twin, methods = IoTHubModuleClient(module.connection_string, MQTT), Calls(), Calls(respond(200, "{}"))
    client.set_module_twin_callback(twin, client)
    client.set_module_method_callback(methods, client)
    assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE
    module.patch_desired({"n": 1})
    assert json.loads(twin.next()[1]) == {"n": 1, "$version": 2}
    assert module.invoke("turn", "1").json["status"] == 200
    assert methods.next() == ("turn", "1", client)


def test_a_module_sends_through_outputs_and_hears_inputs(module):
    client, confirmed = IoTHubModuleClient(module.connection_string, MQTT), Calls()
    client.set_message_callback("input1", Calls(), client)
    client.set_message_callback(Calls(), client)
    client.send_event_async("output1", IoTHubMessage("x"), confirmed, 1)
    copy, result, context = confirmed.next()
    assert (copy.output_name, result, context) == ("output1", OK, 1)


def test_a_module_from_the_environment(module, bundle, monkeypatch):
    client = IoTHubModuleClient()
    with pytest.raises(IoTHubClientError):
        client.send_event_async(IoTHubMessage("x"), Calls(), 0)
    monkeypatch.setenv("EdgeHubConnectionString", module.connection_string)
    with pytest.raises(IoTHubClientError, match="^IoTHubClient.IoTHubClient, IoTHubClientResult.ERROR$"):
        client.create_from_environment(MQTT)
    monkeypatch.setenv("EdgeModuleCACertificateFile", bundle.path)
    monkeypatch.delenv("OSTLER_CA_FILE")
    assert client.create_from_environment(MQTT) is None
    twin = Calls()
    client.set_module_twin_callback(twin, 0)
    assert twin.next()[0] is IoTHubTwinUpdateState.COMPLETE


def test_a_transport_shared_by_two_clients(hub):
    name, suffix = hub.hostname.split(".", 1)
    transport = IoTHubTransport(IoTHubTransportProvider.AMQP, name, suffix)
    for _ in range(2):
        device, confirmed = register(hub), Calls()
        config = IoTHubConfig(IoTHubTransportProvider.AMQP, device.device_id, device.key, "", name, suffix, "")
        client = IoTHubClient(transport, config)
        client.send_event_async(IoTHubMessage("x"), confirmed, 0)
        assert confirmed.next()[1] is OK


def test_a_private_authority_comes_by_option(device, hub, monkeypatch):
    monkeypatch.delenv("OSTLER_CA_FILE")
    client, statuses = IoTHubClient(device.connection_string, MQTT), Calls()
    client.set_option("TrustedCerts", hub.ca_pem)
    client.set_connection_status_callback(statuses, 0)
    assert statuses.next()[0] is IoTHubConnectionStatus.AUTHENTICATED


def test_http_polls_as_far_as_a_program_can_tell(device):
    client, confirmed = IoTHubClient(device.connection_string, HTTP), Calls()
    client.set_option("timeout", 241000)
    client.set_option("MinimumPollingTime", 9)
    client.set_connection_status_callback(statuses := Calls(), 0)
    client.send_event_async(IoTHubMessage("x"), confirmed, 0)
    assert confirmed.next()[1] is OK and statuses.none_waits()
    with pytest.raises(IoTHubClientError, match="set_twin_callback, IoTHubClientResult.ERROR"):
        client.set_device_twin_callback(Calls(), 0)
