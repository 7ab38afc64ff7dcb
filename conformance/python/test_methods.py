"""Direct methods: invoked with azure-iot-hub, answered with azure-iot-device or a plain MQTT client."""

import concurrent.futures
import json
import threading
import time

import pytest
from azure.iot.hub import models
from msrest.exceptions import HttpOperationError

from hub import eventually
from judges import HTTPS, HUB_SDK
from rawmqtt import Plain

operation = pytest.mark.operation
sdk = pytest.mark.sdk(HUB_SDK)
plain = pytest.mark.sdk(HTTPS)

METHODS = ("$iothub/methods/POST/#", 0)


def refusal(call):
    with pytest.raises(HttpOperationError) as caught:
        call()
    return caught.value.response


def invoke(https, identity, **body):
    return https.post(f"{identity.twin_path}/methods", {"methodName": "m", **body})


def rid_of(topic):
    return topic.rsplit("/?$rid=", 1)[1]


@pytest.fixture
def echo(device):
    """A plain device that takes method calls; the test answers them."""
    client = Plain(device)
    assert client.connect()[0] == 0
    client.subscribe(METHODS)
    yield client
    client.close()


# ---------------------------------------------------------------- the happy road

PAYLOADS = {
    "object": {"delay": 5, "nested": {"a": [1, 2.5, None]}},
    "empty object": {},
    "array": [1, "two", None],
    "string": "text",
    "number": 42,
    "float": 0.5,
    "true": True,
    "unicode": "grüße 🚀",
}


@sdk
@operation("method: invoke on a device")
@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_arrive_and_come_back(device, connect, name):
    client = connect(device)
    client.on_method(lambda request: (200, {"name": request.name, "got": request.payload}))
    result = device.invoke("echo", PAYLOADS[name])
    assert (result.status, result.payload) == (200, {"name": "echo", "got": PAYLOADS[name]})


@sdk
@operation("method: invoke on a device")
def test_the_sdk_sends_an_empty_string_for_no_payload(device, connect):
    client = connect(device)
    client.on_method(lambda request: (200, [request.payload]))
    assert device.invoke("echo").payload == [""]


@sdk
@operation("method: invoke on a device")
@pytest.mark.parametrize("status", [0, 200, 404, 500, -7, 2147483647])
def test_the_device_chooses_any_status(device, connect, status):
    client = connect(device)
    client.on_method(lambda request: (status, None))
    result = device.invoke("m")
    assert (result.status, result.payload) == (status, None)


@sdk
@operation("method: invoke on a module")
def test_a_module_answers_its_own_calls(new_module, connect):
    module = new_module()
    client = connect(module)
    client.on_method(lambda request: (201, request.payload))
    result = module.invoke("open", {"to": 40})
    assert (result.status, result.payload) == (201, {"to": 40})


@sdk
@operation("method: invoke on a module")
def test_device_and_module_do_not_hear_each_other(device, new_module, connect):
    module = new_module(of=device)
    connect(device).on_method(lambda request: (200, "device"))
    connect(module).on_method(lambda request: (200, "module"))
    assert (device.invoke("who").payload, module.invoke("who").payload) == ("device", "module")


@sdk
@operation("method: many at once")
def test_a_hundred_calls_in_flight_on_one_device(device, connect):
    client = connect(device)
    waiting = []
    all_here = threading.Event()

    def collect(request):
        waiting.append(request)
        if len(waiting) == 100:
            all_here.set()

    client.methods.put = collect
    client.on_method()
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(device.invoke, "slow", number) for number in range(100)]
        assert all_here.wait(45), f"only {len(waiting)} of 100 calls reached the device"
        for request in reversed(waiting):
            client.answer(request, 200, request.payload)
        assert [call.result().payload for call in calls] == list(range(100))


@sdk
@operation("method: many at once")
def test_calls_on_many_devices_do_not_wait_for_each_other(new_device, connect):
    devices = [new_device() for _ in range(10)]
    barrier = threading.Barrier(10, timeout=30)

    def answer_when_all_are_called(request):
        barrier.wait()
        return 200, request.payload

    for device in devices:
        connect(device).on_method(answer_when_all_are_called)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(device.invoke, "meet", number) for number, device in enumerate(devices)]
        assert [call.result().payload for call in calls] == list(range(10))


# ---------------------------------------------------------------- raw payloads


@plain
@operation("method: payloads")
@pytest.mark.parametrize(
    "sent,received",
    [
        ("absent", b"null"),
        (None, b"null"),
        ("", b'""'),
        ({"b": 1, "a": 2}, b'{"b":1,"a":2}'),
        (0, b"0"),
        (False, b"false"),
    ],
    ids=["absent", "null", "empty string", "object", "zero", "false"],
)
def test_what_the_device_receives(https, device, echo, sent, received):
    body = {} if sent == "absent" else {"payload": sent}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device, **body)
        topic, payload = echo.next()
        assert topic.startswith("$iothub/methods/POST/m/?$rid=")
        assert payload in (received, b"") if received == b"null" else payload == received
        echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", b"{}", qos=0)
        assert call.result().json == {"status": 200, "payload": {}}


@plain
@operation("method: payloads")
def test_numbers_pass_through_untouched(https, device, echo):
    text = '{"methodName":"m","payload":{"big":12345678901234567890,"one":1.0}}'
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(https.post, f"{device.twin_path}/methods", text)
        topic, payload = echo.next()
        assert payload == b'{"big":12345678901234567890,"one":1.0}'
        echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", payload, qos=0)
        assert '"payload":{"big":12345678901234567890,"one":1.0}' in call.result().text


@plain
@operation("method: payloads")
def test_an_empty_answer_is_null(https, device, echo):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device)
        topic, _ = echo.next()
        echo.publish(f"$iothub/methods/res/202/?$rid={rid_of(topic)}", b"", qos=1)
        assert call.result().json == {"status": 202, "payload": None}


@plain
@operation("method: payloads")
def test_an_answer_that_is_not_json_fails_the_caller_and_keeps_the_device(https, device, echo):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device)
        topic, _ = echo.next()
        echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", b"{not json", qos=1)
        answer = call.result()
    assert answer.status == 502
    assert answer.inner["message"]
    assert echo.alive()


@plain
@operation("method: payloads")
def test_128_kib_pass_in_both_directions(https, device, echo):
    text = "x" * (128 * 1024 - 2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device, payload=text)
        topic, payload = echo.next()
        assert len(payload) == 128 * 1024
        echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", payload, qos=1)
        assert call.result().json == {"status": 200, "payload": text}


@plain
@operation("method: payloads")
def test_more_than_128_kib_are_refused_before_the_device_is_asked(https, device, echo):
    answer = invoke(https, device, payload="x" * (128 * 1024))
    assert (answer.status, answer.error_code) == (413, "MessageTooLarge")
    assert echo.messages.empty()


# ---------------------------------------------------------------- answers that count, answers that do not


@plain
@operation("method: payloads")
def test_unsolicited_late_and_double_answers_are_dropped(https, device, echo):
    echo.publish("$iothub/methods/res/200/?$rid=ffff", b"{}", qos=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device)
        topic, _ = echo.next()
        for number in (1, 2):
            echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", str(number).encode(), qos=1)
        assert call.result().json == {"status": 200, "payload": 1}
    assert echo.alive()


@plain
@operation("method: payloads")
def test_request_ids_are_short_lower_hex_and_never_repeat(https, device, echo):
    seen = set()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            call = pool.submit(invoke, https, device)
            rid = rid_of(echo.next()[0])
            assert rid and len(rid) <= 16 and set(rid) <= set("0123456789abcdef")
            seen.add(rid)
            echo.publish(f"$iothub/methods/res/200/?$rid={rid}", b"{}", qos=0)
            call.result()
    assert len(seen) == 3


@plain
@operation("method: payloads")
def test_an_answer_after_a_reconnect_still_counts(https, device, echo):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(invoke, https, device)
        topic, _ = echo.next()
        echo.drop()
        again = Plain(device)
        assert again.connect()[0] == 0
        again.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", b'"back"', qos=1)
        assert call.result().json == {"status": 200, "payload": "back"}
        again.close()


# ---------------------------------------------------------------- not there, too late


@sdk
@operation("method: not online")
def test_an_offline_device_is_404_at_once(device):
    started = time.monotonic()
    response = refusal(lambda: device.invoke("m"))
    assert (response.status_code, response.reason) == (404, "Not Found")
    assert response.headers["iothub-errorcode"] == "DeviceNotOnline"
    assert json.loads(response.json()["Message"])["errorCode"] == 404103
    assert time.monotonic() - started < 4


@sdk
@operation("method: not online")
def test_a_connected_device_that_takes_no_methods_is_not_online(device, connect):
    connect(device)
    assert refusal(lambda: device.invoke("m")).headers["iothub-errorcode"] == "DeviceNotOnline"


@sdk
@operation("method: not online")
def test_an_unknown_device_is_not_found(hub, new_id):
    call = models.CloudToDeviceMethod(method_name="m")
    response = refusal(lambda: hub.registry.invoke_device_method(new_id(), call))
    assert (response.status_code, response.headers["iothub-errorcode"]) == (404, "DeviceNotFound")


@sdk
@operation("method: not online")
def test_an_unknown_module_is_not_found(hub, device):
    call = models.CloudToDeviceMethod(method_name="m")
    response = refusal(lambda: hub.registry.invoke_device_module_method(device.device_id, "none", call))
    assert (response.status_code, response.headers["iothub-errorcode"]) == (404, "ModuleNotFound")


@sdk
@operation("method: connect timeout")
def test_a_call_waits_for_the_device_to_connect(device, connect):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(device.invoke, "m", {"a": 1}, 30, 30)
        client = connect(device)
        client.on_method(lambda request: (200, request.payload))
        assert call.result().payload == {"a": 1}


@sdk
@operation("method: connect timeout")
def test_a_call_gives_up_when_the_device_stays_away(device):
    started = time.monotonic()
    response = refusal(lambda: device.invoke("m", connect_timeout=2))
    assert 1.5 < time.monotonic() - started < 8
    assert (response.status_code, response.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
    assert "timeout" in json.loads(response.json()["Message"])["info"]


@sdk
@operation("method: response timeout")
def test_no_answer_is_504(device, connect):
    client = connect(device)
    client.on_method()
    started = time.monotonic()
    response = refusal(lambda: device.invoke("m", response_timeout=5))
    assert 4 < time.monotonic() - started < 8
    assert (response.status_code, response.reason) == (504, "Gateway Timeout")
    assert response.headers["iothub-errorcode"] == "GatewayTimeout"
    assert json.loads(response.json()["Message"])["errorCode"] == 504101
    client.answer(client.next_method(), 200, "late")
    client.on_method(lambda request: (200, "next"))
    assert device.invoke("m").payload == "next"


@plain
@operation("method: response timeout")
@pytest.mark.parametrize(
    "fields",
    [
        {"responseTimeoutInSeconds": 4},
        {"responseTimeoutInSeconds": 301},
        {"connectTimeoutInSeconds": -1},
        {"connectTimeoutInSeconds": 301},
        {"responseTimeoutInSeconds": "soon"},
        {"methodName": ""},
        {"methodName": None},
    ],
    ids=str,
)
def test_bad_arguments_are_bad_requests(https, device, fields):
    answer = invoke(https, device, **fields)
    assert answer.status == 400
    assert answer.inner["errorCode"] // 1000 == 400


@plain
@operation("method: response timeout")
def test_the_old_spelling_of_the_timeout_counts(https, device, echo):
    started = time.monotonic()
    answer = invoke(https, device, timeoutInSeconds=5)
    assert answer.status == 504
    assert time.monotonic() - started < 8


@plain
@operation("method: not online")
def test_a_caller_that_goes_away_leaks_nothing(https, device, echo, hub):
    with pytest.raises(TimeoutError):
        https.post(f"{device.twin_path}/methods", {"methodName": "m"}, timeout=0.5)
    topic, _ = echo.next()
    echo.publish(f"$iothub/methods/res/200/?$rid={rid_of(topic)}", b"{}", qos=1)
    assert echo.alive()


@pytest.mark.sdk(HUB_SDK)
@operation("method: not online")
def test_unsubscribing_takes_the_device_off_the_list(device, echo):
    echo.unsubscribe(METHODS[0])
    assert refusal(lambda: device.invoke("m")).headers["iothub-errorcode"] == "DeviceNotOnline"


@sdk
@operation("method: not online")
def test_a_disabled_device_is_not_online(registry, device, echo):
    registry.update_device_with_sas(device.device_id, None, device.key, device.key, "disabled")
    echo.wait_closed()
    assert refusal(lambda: device.invoke("m")).headers["iothub-errorcode"] == "DeviceNotOnline"


@sdk
@operation("method: not online")
def test_a_call_on_a_device_that_is_deleted_ends_in_time(registry, device, echo):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(refusal, lambda: device.invoke("m", response_timeout=5))
        echo.next()
        registry.delete_device(device.device_id)
        assert call.result(timeout=10).status_code in (404, 504)


@operation("methods")
def test_every_face_of_the_device_sdk_answers(device, connect, face):
    client = connect(device)
    client.on_method(lambda request: (200, {"name": request.name, "payload": request.payload}))
    result = device.invoke("reboot", {"delay": 5})
    assert (result.status, result.payload) == (200, {"name": "reboot", "payload": {"delay": 5}})


@operation("methods")
def test_methods_stop_with_the_connection_and_come_back_with_it(device, connect, face):
    client = connect(device)
    client.on_method(lambda request: (200, "here"))
    assert device.invoke("m").payload == "here"
    client.disconnect()
    eventually(lambda: refusal(lambda: device.invoke("m")).status_code == 404)
    client.connect()
    assert device.invoke("m", response_timeout=10, connect_timeout=10).payload == "here"
