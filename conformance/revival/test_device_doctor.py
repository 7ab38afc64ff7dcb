"""`python -m iothub_client doctor`: every finding has its line, its advice and its exit code."""

import pytest
from conftest import register
from hub import new_key


def doctor(program, *arguments, **environment):
    code, out, err = program("-m", "iothub_client", "doctor", *arguments, **environment).finish(60)
    assert err == ""
    return code, out


def failures(out):
    return [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("FAIL")]


def test_without_a_hub_it_looks_at_this_machine(program):
    code, out = doctor(program, OSTLER_CA_FILE="", OSTLER_MQTT_PORT="")
    assert code == 0 and "all is well" in out
    for word in ("iothub_client", "native half", "Python", "OSTLER_CA_FILE", "none given"):
        assert word in out


@pytest.mark.parametrize("port", ["", "8883"])
def test_with_a_hub_it_goes_up_to_signing_in(program, device, port):
    code, out = doctor(program, device.connection_string, OSTLER_MQTT_PORT=port)
    assert code == 0, out
    for word in ("DNS", "TCP MQTT", "TCP HTTPS", "TLS MQTT", "TLS HTTPS", "sign-in MQTT"):
        assert f"ok    {word}" in out
    assert device.key not in out


def test_the_connection_string_may_be_in_the_environment(program, device):
    assert doctor(program, IOTHUB_DEVICE_CONNECTION_STRING=device.connection_string)[0] == 0


def test_a_closed_mqtt_port_leaves_websocket(program, device):
    code, out = doctor(program, device.connection_string, OSTLER_MQTT_PORT="1")
    assert code == 1
    assert [line.split("  ")[0] for line in failures(out)] == ["TCP MQTT"]
    assert "ok    sign-in MQTT_WS" in out


@pytest.mark.parametrize(
    "change, finding",
    [
        (lambda d: {"IOTHUB_DEVICE_CONNECTION_STRING": "[device connection string]"}, "connection string"),
        (lambda d: {"IOTHUB_DEVICE_CONNECTION_STRING": d.connection_string.replace(d.key, "no key")}, "connection string"),
        (lambda d: {"IOTHUB_DEVICE_CONNECTION_STRING": d.connection_string.replace(d.key, new_key())}, "sign-in MQTT"),
        (lambda d: {"IOTHUB_DEVICE_CONNECTION_STRING": d.connection_string.replace(d.hub.hostname, "no.invalid")}, "DNS"),
        (lambda d: {"OSTLER_MQTT_PORT": "none", "IOTHUB_DEVICE_CONNECTION_STRING": ""}, "OSTLER_MQTT_PORT"),
        (lambda d: {"OSTLER_CA_FILE": "/nowhere/ca.pem", "IOTHUB_DEVICE_CONNECTION_STRING": ""}, "OSTLER_CA_FILE"),
        (lambda d: {"OSTLER_CA_FILE": __file__, "IOTHUB_DEVICE_CONNECTION_STRING": ""}, "OSTLER_CA_FILE"),
        (lambda d: {"OSTLER_CA_FILE": "", "IOTHUB_DEVICE_CONNECTION_STRING": d.connection_string}, "TLS MQTT"),
    ],
)
def test_what_is_wrong_is_named_with_advice(program, device, change, finding):
    code, out = doctor(program, **change(device))
    assert code == 1
    assert failures(out)[0].startswith(finding), out
    assert "-> " in out and device.key not in out


def test_the_connection_string_of_a_back_end_is_told_from_a_damaged_one(program):
    code, out = doctor(program, "HostName=h.example;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==")
    assert code == 1 and "a back end's" in out and "ostler device connection-string" in out


def test_a_disabled_device_is_told_apart_from_a_bad_network(program, hub):
    code, out = doctor(program, register(hub, status="disabled").connection_string)
    assert code == 1 and "DEVICE_DISABLED" in failures(out)[-1]
    assert "registered and enabled" in out


@pytest.mark.parametrize("arguments", [[], ["cure"], ["doctor", "one", "two"]])
def test_it_says_how_it_is_called(program, arguments):
    code, out, err = program("-m", "iothub_client", *arguments).finish()
    assert code == 2 and "usage: python -m iothub_client doctor" in err
