"""MQTT without an IoT SDK: paho as any MQTT 3.1.1 client, and a bare socket where paho would not go."""

import concurrent.futures
import json
import re
import socket
import ssl
import time

import paho.mqtt.client as paho
import pytest

from hub import eventually, new_key
from judges import PAHO
from rawmqtt import Bare, Plain, connect_packet, device_token, mqtt_string, packet, tls, username
from tokens import sas_token

operation = pytest.mark.operation
pytestmark = pytest.mark.sdk(PAHO)

TWIN = ("$iothub/twin/res/#", 0)
GET = "$iothub/twin/GET/?$rid="
REPORT = "$iothub/twin/PATCH/properties/reported/?$rid="


@pytest.fixture
def plain(device):
    client = Plain(device)
    assert client.connect() == (0, 0)
    yield client
    client.close()


def telemetry(device):
    module = f"modules/{device.module_id}/" if device.module_id else ""
    return f"devices/{device.device_id}/{module}messages/events/"


# ---------------------------------------------------------------- CONNECT: user names

USERNAMES = {
    "python": "{hub}/{id}/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11.7%3BLinux%29",
    "python with a model": "{hub}/{id}/?api-version=2020-09-30&DeviceClientType=py&model-id=dtmi%3Aex%3AThermostat%3B1",
    "node with a model": "{hub}/{id}/?api-version=2021-04-12&model-id=dtmi:ex:Thermostat;1&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)",
    "c": "{hub}/{id}/?api-version=2020-09-30&DeviceClientType=iothubclient%2f1.15.0%20(native%3b%20Linux%3b%20x86_64)",
    ".net": "{hub}/{id}/?api-version=2020-09-30&DeviceClientType=.NET%2F1.42.0",
    "without a question mark": "{hub}/{id}/api-version=2016-11-14&DeviceClientType=c%2f1.0",
    "with an auth chain": "{hub}/{id}/?api-version=2021-04-12&auth-chain=edge1%3Bleaf&unknown=1",
    "parameters in another order": "{hub}/{id}/?DeviceClientType=x&api-version=2021-04-12",
    "host in upper case": "{HUB}/{id}/?api-version=2021-04-12",
    "no api-version": "{hub}/{id}",
    "no api-version, trailing slash": "{hub}/{id}/",
}


@operation("sign-in: user names of every SDK generation")
@pytest.mark.parametrize("name", USERNAMES)
def test_user_names_of_every_generation(device, name):
    hub = device.hub.hostname
    user = USERNAMES[name].format(hub=hub, HUB=hub.upper(), id=device.client_id)
    client = Plain(device, username=user)
    assert client.connect() == (0, 0)
    client.publish(telemetry(device), b"hello")
    client.close()


@operation("sign-in: user names of every SDK generation")
def test_a_client_without_api_version_may_use_twins(device):
    client = Plain(device, username=f"{device.hub.hostname}/{device.device_id}")
    client.connect()
    assert client.alive()
    client.close()


@operation("sign-in: user names of every SDK generation")
def test_the_model_id_shows_in_the_twin(device):
    client = Plain(device, username=username(device) + "&model-id=dtmi%3Aex%3AThermostat%3B1")
    client.connect()
    assert eventually(lambda: device.twin().get("modelId")) == "dtmi:ex:Thermostat;1"
    client.close()


@operation("sign-in: user names of every SDK generation")
@pytest.mark.parametrize(
    "user",
    ["", "nonsense", "{hub}", "other.example.net/{id}/?api-version=2021-04-12", "{hub}/{id}x/?api-version=2021-04-12",
     "{hub}/{upper}/?api-version=2021-04-12", "{hub}/{id}/extra/?api-version=2021-04-12"],
)  # fmt: skip
def test_user_names_that_do_not_fit_are_refused_with_5(device, user):
    user = user.format(hub=device.hub.hostname, id=device.device_id, upper=device.device_id.upper())
    assert Plain(device, username=user).connect()[0] == 5


# ---------------------------------------------------------------- CONNECT: tokens

HOUR = 3600


def tokens(device):
    hub, key = device.hub, device.key
    device_resource = f"{hub.hostname}/devices/{device.device_id}"
    return {
        "encoded, as Python": (sas_token(device_resource, key), 0),
        "not encoded, as C": (sas_token(device_resource, key, encode=False, lower=True), 0),
        "encoded in lower case, as C DPS": (sas_token(device_resource, key, lower=True), 0),
        "other field order": (sas_token(device_resource, key, order="se,sig,sr"), 0),
        "empty skn": (sas_token(device_resource, key, policy=""), 0),
        "host in upper case": (sas_token(f"{hub.hostname.upper()}/devices/{device.device_id}", key), 0),
        "policy over one device": (sas_token(device_resource, hub.policy_key, policy=hub.policy), 0),
        "policy over all devices": (sas_token(f"{hub.hostname}/devices", hub.policy_key, policy=hub.policy), 0),
        "policy over the hub": (sas_token(hub.hostname, hub.policy_key, policy=hub.policy), 0),
        "expired a minute ago, within the clock allowance": (sas_token(device_resource, key, -60), 0),
        "expired an hour ago": (sas_token(device_resource, key, -HOUR), 5),
        "wrong key": (sas_token(device_resource, new_key()), 5),
        "another device": (sas_token(f"{hub.hostname}/devices/another", key), 5),
        "a prefix of the id": (sas_token(device_resource[:-1], key), 5),
        "another hub": (sas_token(f"other.example.net/devices/{device.device_id}", key), 5),
        "unknown policy": (sas_token(device_resource, hub.policy_key, policy="nobody"), 5),
        "device key under a policy's name": (sas_token(device_resource, key, policy=hub.policy), 5),
        "expiry is no number": (sas_token(device_resource, key, expiry="tomorrow"), 5),
        "expiry is huge": (sas_token(device_resource, key, expiry="9" * 40), 5),
        "no signature": (f"SharedAccessSignature sr={device_resource}&se=9999999999", 5),
        "signature cut short": (sas_token(device_resource, key)[:60], 5),
        "garbage": ("garbage", 5),
        "empty": ("", 5),
        "very long": ("SharedAccessSignature sr=" + "a" * 60000, 5),
    }


TOKEN_NAMES = [
    "encoded, as Python", "not encoded, as C", "encoded in lower case, as C DPS", "other field order", "empty skn",
    "host in upper case", "policy over one device", "policy over all devices", "policy over the hub",
    "expired a minute ago, within the clock allowance", "expired an hour ago", "wrong key", "another device",
    "a prefix of the id", "another hub", "unknown policy", "device key under a policy's name",
    "expiry is no number", "expiry is huge", "no signature", "signature cut short", "garbage", "empty", "very long",
]  # fmt: skip


@operation("sign-in: SAS token")
@pytest.mark.parametrize("name", TOKEN_NAMES)
def test_tokens_in_every_spelling(device, name):
    token, code = tokens(device)[name]
    client = Plain(device, password=token)
    assert client.connect() == (code, 0)
    client.close() if code == 0 else client.wait_closed()


@operation("sign-in: SAS token")
def test_a_device_token_does_not_open_a_module(new_device, new_module):
    device = new_device()
    module = new_module(of=device)
    assert Plain(module, password=device_token(device)).connect() == (5, 0)


@operation("sign-in: SAS token")
def test_no_password_at_all_is_refused(device):
    assert Plain(device, password=None).connect() == (5, 0)


@operation("sign-in: SAS token")
def test_the_connection_ends_with_its_token(device):
    """A token that lies in the clock allowance already is good for a while and then the connection is closed."""
    client = Plain(device, password=device_token(device, lifetime=-296))
    assert client.connect() == (0, 0)
    client.wait_closed(30)


@operation("sign-in: refused")
@pytest.mark.local_only("would lock this machine's address out of a shared service")
def test_a_source_that_fails_too_often_waits_and_the_others_do_not(limited_hub, new_device):
    device = new_device(on=limited_hub)

    def sign_in(**credentials):
        started = time.monotonic()
        code, _ = Plain(device, **credentials).connect()
        return code, time.monotonic() - started

    within_bounds = [sign_in(password="garbage") for _ in range(5)]
    beyond = sign_in(password="garbage")
    good = sign_in()
    assert {code for code, _ in within_bounds} == {5}
    assert beyond[0] == 5
    assert beyond[1] > 2 * max(seconds for _, seconds in within_bounds)
    assert good[0] == 0
    assert good[1] < beyond[1] / 2, "an address is shared by many devices: the good ones pass as ever"
    assert limited_hub.https.get("/devices", authorization="garbage").status == 429
    assert limited_hub.https.get("/devices").status == 200


# ---------------------------------------------------------------- CONNECT: the packet


@operation("MQTT: connection rules")
def test_mqtt_3_1_is_refused_with_1(device):
    client = Plain(device, protocol=paho.MQTTv31)
    assert client.connect()[0] == 1


@operation("MQTT: connection rules")
def test_mqtt_5_is_refused(device):
    with Bare(device) as bare:
        bare.send(connect_packet(device, level=5))
        answer = bare.receive()
        assert answer is None or answer[1][1] in (1, 0x84)
        assert bare.closed_by_hub()


@operation("MQTT: connection rules")
@pytest.mark.parametrize("client_id", ["", "another", "{id}/"], ids=["empty", "another", "trailing slash"])
def test_a_client_id_that_is_not_the_users_is_refused(device, client_id):
    client = Plain(device, client_id=client_id.format(id=device.device_id))
    assert client.connect()[0] == 5


BROKEN_STARTS = {
    "a PINGREQ first": lambda device: packet(0xC0, b""),
    "a PUBLISH first": lambda device: packet(0x30, mqtt_string("a") + b"x"),
    "reserved packet type 0": lambda device: packet(0x00, b""),
    "reserved packet type 15": lambda device: packet(0xF0, b""),
    "HTTP": lambda device: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length of five bytes": lambda device: b"\x10\xff\xff\xff\xff\x7f",
    "a length beyond the limit": lambda device: b"\x10\xff\xff\xff\x7f" + b"\x00" * 64,
    "the reserved connect flag": lambda device: connect_packet(device, flags=0xC3),
    "a password without a user name": lambda device: packet(
        0x10, mqtt_string("MQTT") + b"\x04\x42\x00\x3c" + mqtt_string("d") + mqtt_string("p")
    ),
    "a client id that is not UTF-8": lambda device: connect_packet(device, client_id=b"\xff\xfe"),
    "a client id with NUL": lambda device: connect_packet(device, client_id="a\0b"),
    "a body that ends early": lambda device: packet(0x10, mqtt_string("MQTT") + b"\x04\xc2"),
}


@operation("MQTT: connection rules")
@pytest.mark.parametrize("name", BROKEN_STARTS)
def test_broken_starts_end_the_connection(device, name):
    with Bare(device) as bare:
        bare.send(BROKEN_STARTS[name](device))
        assert bare.closed_by_hub()


@operation("MQTT: connection rules")
def test_a_second_connect_ends_the_connection(device):
    with Bare(device) as bare:
        bare.sign_in()
        bare.send(connect_packet(device))
        assert bare.closed_by_hub()


@operation("MQTT: connection rules")
def test_packets_may_follow_connect_at_once(device):
    subscribe = packet(0x82, b"\x00\x01" + mqtt_string(TWIN[0]) + b"\x00")
    get = packet(0x30, mqtt_string(GET + "7") + b" ")
    with Bare(device) as bare:
        bare.send(connect_packet(device) + subscribe + get)
        assert bare.receive() == (0x20, b"\x00\x00")
        assert bare.receive() == (0x90, b"\x00\x01\x00")
        first, body = bare.receive()
        assert first & 0xF0 == 0x30
        assert body.startswith(mqtt_string("$iothub/twin/res/200/?$rid=7"))


@operation("MQTT: connection rules")
def test_a_packet_may_arrive_byte_by_byte(device):
    with Bare(device) as bare:
        for byte in connect_packet(device):
            bare.send(bytes([byte]))
        assert bare.receive() == (0x20, b"\x00\x00")


@operation("MQTT: connection rules")
def test_pings_are_answered_at_once(device):
    with Bare(device) as bare:
        bare.sign_in()
        for _ in range(3):
            bare.send(packet(0xC0, b""))
            assert bare.receive() == (0xD0, b"")


@operation("MQTT: connection rules")
def test_silence_beyond_the_keep_alive_ends_the_connection(device):
    with Bare(device) as bare:
        bare.sign_in(keep_alive=2)
        started = time.monotonic()
        assert bare.closed_by_hub()
        assert 2 < time.monotonic() - started < 6


@operation("MQTT: connection rules")
def test_a_client_that_pings_in_time_stays(device):
    client = Plain(device, keep_alive=2)
    assert client.connect() == (0, 0)
    assert not client.closed.wait(5), "closed although it pings every two seconds"
    assert client.alive()
    client.close()


@operation("MQTT: connection rules")
def test_tls_1_2_and_1_3_are_spoken(device):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for port in (8883, 443):
            context = tls(device, maximum=version)
            context.minimum_version = version
            with socket.create_connection((device.hub.hostname, port), timeout=10) as raw:
                with context.wrap_socket(raw, server_hostname=device.hub.hostname) as secure:
                    assert secure.version() == version.name.replace("v1_", "v1.")


@operation("MQTT: connection rules")
def test_web_sockets_carry_the_same_protocol(device):
    client = Plain(device, websockets=True)
    assert client.connect() == (0, 0)
    assert client.alive()
    client.publish(telemetry(device), b"x" * 200_000)
    client.close()


# ---------------------------------------------------------------- sessions


@operation("session: subscriptions persist")
def test_a_session_is_present_after_a_persistent_connect_only(device):
    first = Plain(device, clean_session=False)
    assert first.connect() == (0, 0)
    first.subscribe(TWIN, ("$iothub/methods/POST/#", 1))
    first.close()
    second = Plain(device, clean_session=False)
    assert second.connect() == (0, 1)
    assert second.request(GET + "1")[0] == 200
    second.close()
    third = Plain(device, clean_session=True)
    assert third.connect() == (0, 0)
    third.close()
    fourth = Plain(device, clean_session=False)
    assert fourth.connect()[0] == 0
    fourth.publish(GET + "2", qos=1)
    assert fourth.messages.empty()
    fourth.close()


@operation("session: subscriptions persist")
@pytest.mark.local_only("kills the hub process")
def test_subscriptions_survive_a_kill_of_the_hub(own_hub, new_device):
    device = new_device(on=own_hub)
    client = Plain(device, clean_session=False)
    client.connect()
    client.subscribe(TWIN, ("$iothub/twin/PATCH/properties/desired/#", 0))
    own_hub.kill()
    client.wait_closed()
    own_hub.start()
    again = Plain(device, clean_session=False)
    assert again.connect() == (0, 1)
    device.patch_twin({"properties": {"desired": {"a": 1}}})
    assert again.next()[0] == "$iothub/twin/PATCH/properties/desired/?$version=2"
    again.close()


@operation("session: subscriptions persist")
def test_unsubscribe_is_remembered_too(device):
    client = Plain(device, clean_session=False)
    client.connect()
    client.subscribe(TWIN, ("$iothub/twin/PATCH/properties/desired/#", 0))
    client.unsubscribe("$iothub/twin/PATCH/properties/desired/#")
    client.close()
    again = Plain(device, clean_session=False)
    again.connect()
    device.patch_twin({"properties": {"desired": {"a": 1}}})
    assert again.request(GET + "1")[0] == 200
    assert again.messages.empty()
    again.close()


@operation("takeover")
def test_the_loser_hears_nothing_but_the_end(device):
    first, second = Plain(device), Plain(device)
    first.connect()
    assert second.connect()[0] == 0
    first.wait_closed()
    assert second.alive()
    second.close()


# ---------------------------------------------------------------- SUBSCRIBE


@operation("MQTT: subscriptions")
def test_every_documented_filter_is_granted(device, new_module, plain):
    for topic in (
        f"devices/{device.device_id}/messages/devicebound/#",
        "$iothub/methods/POST/#",
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
    ):
        for qos in (0, 1):
            assert plain.subscribe((topic, qos)) == [qos]
        assert plain.subscribe((topic, 2)) == [1]
        plain.unsubscribe(topic)
    module = new_module(of=device)
    client = Plain(module)
    client.connect()
    stem = f"devices/{module.device_id}/modules/{module.module_id}"
    assert client.subscribe((f"{stem}/inputs/#", 1), (f"{stem}/#", 1)) == [1, 1]
    client.close()


@operation("MQTT: subscriptions")
@pytest.mark.parametrize(
    "topic",
    ["#", "+/+", "devices/#", "devices/+/messages/devicebound/#", "devices/another/messages/devicebound/#",
     "devices/{id}/messages/events/#", "$iothub/#", "$SYS/#", "anything"],
)  # fmt: skip
def test_other_filters_are_refused_and_the_connection_stays(device, plain, topic):
    assert plain.subscribe((topic.format(id=device.device_id), 1)) == [0x80]
    assert plain.alive()


@operation("MQTT: subscriptions")
def test_one_packet_may_hold_good_and_bad_filters(plain):
    granted = plain.subscribe(TWIN, ("#", 1), ("$iothub/methods/POST/#", 1), ("$iothub/twin/res/#", 2))
    assert granted == [0, 0x80, 1, 1]
    assert plain.request(GET + "x")[0] == 200


@operation("MQTT: subscriptions")
def test_a_module_does_not_hear_its_own_telemetry(new_module):
    module = new_module()
    client = Plain(module)
    client.connect()
    client.subscribe((f"devices/{module.device_id}/modules/{module.module_id}/#", 1), TWIN)
    client.publish(telemetry(module), b"mine")
    assert client.request(GET + "1")[0] == 200
    assert client.messages.empty()
    client.close()


# ---------------------------------------------------------------- PUBLISH


@operation("MQTT: publishing rules")
@pytest.mark.parametrize(
    "bag",
    ["", "a=b", "%24.mid=id%201%2B%2F&%24.ct=application%2Fjson&%24.ce=utf-8&k%20e=v%26%3D%2F%2B%24~'", "?a=b", "a=b/",
     "novalue", "a=%zz&b=%", "a=1&a=2", "&&"],
)  # fmt: skip
def test_telemetry_with_every_kind_of_bag_is_acknowledged(device, plain, bag):
    plain.publish(telemetry(device) + bag, b"body")
    assert plain.alive()


@operation("MQTT: publishing rules")
def test_telemetry_without_the_last_slash_and_without_a_body(device, plain):
    plain.publish(telemetry(device)[:-1], b"")
    plain.publish(telemetry(device), b"", qos=0)
    plain.publish(telemetry(device), b"kept?", retain=True)
    assert plain.alive()


@operation("MQTT: publishing rules")
def test_acknowledgements_come_in_the_order_of_the_messages(device):
    with Bare(device) as bare:
        bare.sign_in()
        topic = mqtt_string(telemetry(device))
        numbers = [number.to_bytes(2, "big") for number in range(1, 201)]
        bare.send(b"".join(packet(0x32, topic + number + b"x") for number in numbers))
        assert [bare.receive() for _ in numbers] == [(0x40, number) for number in numbers]


@operation("MQTT: publishing rules")
@pytest.mark.parametrize(
    "topic",
    ["devices/another/messages/events/", "devices/{id}x/messages/events/", "devices/{id}/messages/devicebound/",
     "anything", "$iothub/methods/POST/m/?$rid=1", "$iothub/twin/res/200/?$rid=1", "$iothub/twin/GET/",
     "$iothub/twin/nonsense/?$rid=1", "devices/{id}/modules/m/messages/events/", "$SYS/x", "/"],
)  # fmt: skip
def test_foreign_topics_end_the_connection(device, plain, topic):
    plain.publish(topic.format(id=device.device_id), b"x", wait=False)
    plain.wait_closed()


def qos_2(device):
    return packet(0x34, mqtt_string(telemetry(device)) + b"\x00\x01x")


BROKEN_PACKETS = {
    "QoS 2": qos_2,
    "QoS 3": lambda device: packet(0x36, mqtt_string(telemetry(device)) + b"\x00\x01x"),
    "packet id 0": lambda device: packet(0x32, mqtt_string(telemetry(device)) + b"\x00\x00x"),
    "a wildcard in a topic": lambda device: packet(0x30, mqtt_string(telemetry(device) + "#") + b"x"),
    "an empty topic": lambda device: packet(0x30, mqtt_string("") + b"x"),
    "a topic that is not UTF-8": lambda device: packet(0x30, mqtt_string(b"\xc0\x80") + b"x"),
    "a SUBSCRIBE without filters": lambda device: packet(0x82, b"\x00\x01"),
    "a SUBSCRIBE with wrong flags": lambda device: packet(0x80, b"\x00\x01" + mqtt_string("a") + b"\x00"),
    "a CONNACK from a client": lambda device: packet(0x20, b"\x00\x00"),
    "a PUBACK of three bytes": lambda device: packet(0x40, b"\x00\x01\x00"),
    "a packet of a megabyte": lambda device: packet(0x30, mqtt_string(telemetry(device)) + b"x" * (1 << 20)),
}


@operation("MQTT: publishing rules")
@pytest.mark.parametrize("name", BROKEN_PACKETS)
def test_broken_packets_end_the_connection_and_nothing_else(device, name):
    with Bare(device) as bare:
        bare.sign_in()
        try:
            bare.send(BROKEN_PACKETS[name](device))
        except OSError:
            pass  # closed while we were still sending
        assert bare.closed_by_hub()
    with Bare(device) as again:
        again.sign_in()


@operation("MQTT: publishing rules")
def test_256_kib_of_message_pass_and_more_end_the_connection(device, plain):
    plain.publish(telemetry(device), b"x" * 262_144)
    plain.publish(telemetry(device), b"x" * 262_145, wait=False)
    plain.wait_closed()


# ---------------------------------------------------------------- will


@operation("MQTT: will")
def test_a_will_on_the_own_telemetry_topic_is_taken(device):
    client = Plain(device, will=(telemetry(device) + "reason=gone", b"bye", 1, False))
    assert client.connect() == (0, 0)
    client.drop()


@operation("MQTT: will")
@pytest.mark.parametrize("topic,qos", [("devices/another/messages/events/", 1), ("anything", 0), (None, 2)])
def test_other_wills_are_refused(device, topic, qos):
    client = Plain(device, will=(topic or telemetry(device), b"bye", qos, False))
    assert client.connect()[0] in (5, None)


# ---------------------------------------------------------------- twins, byte by byte


@operation("twin: read")
def test_the_answer_topic_is_exactly_as_documented(device, plain):
    plain.subscribe(TWIN)
    device.patch_twin({"properties": {"desired": {"interval": 30}}})
    plain.publish(GET + "0a-B.c", b" ")
    topic, body = plain.next()
    assert topic == "$iothub/twin/res/200/?$rid=0a-B.c"
    assert body == b'{"desired":{"interval":30,"$version":2},"reported":{"$version":1}}'


@operation("twin: report")
def test_a_report_answers_204_with_the_new_version(plain):
    plain.subscribe(TWIN)
    for version in (2, 3):
        plain.publish(REPORT + "r1", b'{"a":1.50}')
        topic, body = plain.next()
        assert (topic, body) == (f"$iothub/twin/res/204/?$rid=r1&$version={version}", b"")
    assert b'"reported":{"a":1.50,' in plain.request(GET + "2")[2]


@operation("twin: report")
def test_the_expected_version_is_a_condition(plain):
    plain.subscribe(TWIN)
    assert plain.request(REPORT + "1&$version=1", b'{"a":1}')[0] == 204
    status, _, body = plain.request(REPORT + "2&$version=1", b'{"a":2}')
    assert status == 412
    assert b'"errorCode":412' in body
    assert b'"a":1' in plain.request(GET + "3")[2]


@operation("twin: report")
def test_a_report_without_a_request_id_is_applied_in_silence(device, plain):
    plain.subscribe(TWIN)
    plain.publish("$iothub/twin/PATCH/properties/reported/", b'{"quiet":1}', qos=1)
    assert b'"quiet":1' in plain.request(GET + "1")[2]


@operation("twin: report")
def test_a_client_that_did_not_subscribe_gets_no_answer(device, plain):
    plain.publish(REPORT + "1", b'{"a":1}', qos=1)
    eventually(lambda: device.twin()["properties"]["reported"].get("a") == 1)
    assert plain.messages.empty()


@operation("twin: errors")
@pytest.mark.parametrize("payload", [b"", b"nope", b"[]", b"1", b'{"a.b":1}', b'{"a":1}{', b'{"a":\xff}', b"[" * 10000])
def test_error_answers_carry_a_code_and_a_message(plain, payload):
    plain.subscribe(TWIN)
    status, parameters, body = plain.request(REPORT + "9", payload)
    assert status == 400
    assert parameters == "?$rid=9"
    error = json.loads(body)
    assert error["errorCode"] // 1000 == 400
    assert error["message"] and error["trackingId"] and error["timestampUtc"]
    assert plain.request(GET + "10")[0] == 200


@operation("twin: desired notifications")
def test_the_notification_is_exactly_as_documented(device, plain):
    plain.subscribe(("$iothub/twin/PATCH/properties/desired/#", 1))
    device.patch_twin({"properties": {"desired": {"interval": None, "mode": {"eco": True, "n": 1}}}})
    topic, body = plain.next()
    assert topic == "$iothub/twin/PATCH/properties/desired/?$version=2"
    assert body == b'{"interval":null,"mode":{"eco":true,"n":1},"$version":2}'


@operation("methods")
def test_the_method_topic_is_exactly_as_documented(device, plain):
    plain.subscribe(("$iothub/methods/POST/#", 0))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(device.invoke, "do-it.now", {"a": 1})
        topic, body = plain.next()
        assert re.fullmatch(r"\$iothub/methods/POST/do-it\.now/\?\$rid=[0-9a-f]{1,16}", topic)
        assert json.loads(body) == {"a": 1}
        plain.publish("$iothub/methods/res/201/?$rid=" + topic.rsplit("=", 1)[1], b"[1]", qos=0)
        assert (call.result().status, call.result().payload) == (201, [1])


@operation("methods")
def test_deliveries_have_qos_0(device, plain):
    plain.subscribe(("$iothub/methods/POST/#", 1), ("$iothub/twin/PATCH/properties/desired/#", 1), ("$iothub/twin/res/#", 1))
    device.patch_twin({"properties": {"desired": {"a": 1}}})
    plain.publish(GET + "1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(device.invoke, "m")
        received = [plain.messages.get(timeout=15) for _ in range(3)]
        method = next(message for message in received if "/methods/" in message.topic)
        plain.publish("$iothub/methods/res/200/?$rid=" + method.topic.rsplit("=", 1)[1], b"", qos=0)
        call.result()
    assert {message.qos for message in received} == {0}
    assert not any(message.retain for message in received)
