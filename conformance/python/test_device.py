"""azure-iot-device in its four faces: blocking and asyncio, over TCP and over WebSocket."""

import contextlib
import time
import uuid
from types import SimpleNamespace

import pytest
from azure.iot.device import Message
from azure.iot.device.exceptions import ClientError, CredentialError, ServiceError

from certs import Certificate
from devices import FACES
from hub import eventually, new_key
from identities import Identity
from rawmqtt import device_token
from test_twins import filler, nested, values
from tokens import sas_token

operation = pytest.mark.operation


# ---------------------------------------------------------------- sign-in


@operation("sign-in: key")
def test_connect_and_disconnect_show_in_the_registry(device, connect, face, registry):
    client = connect(device)
    assert client.connected
    eventually(lambda: registry.get_device(device.device_id).connection_state == "Connected")
    assert registry.get_twin(device.device_id).connection_state == "Connected"
    client.disconnect()
    assert not client.connected
    eventually(lambda: registry.get_device(device.device_id).connection_state == "Disconnected")
    assert registry.get_device(device.device_id).last_activity_time.year > 1


@operation("sign-in: key")
def test_sign_in_with_a_symmetric_key(device, connect, face):
    assert connect(device, how="symmetric_key").connected


@operation("sign-in: key")
def test_sign_in_with_the_secondary_key(hub, device, connect, face):
    device.key = hub.registry.get_device(device.device_id).authentication.symmetric_key.secondary_key
    assert connect(device).connected


@operation("sign-in: SAS token")
def test_sign_in_with_a_ready_made_token(device, connect, face):
    assert connect(device, how="sastoken", sastoken=device_token(device)).connected


@operation("sign-in: SAS token")
def test_sign_in_with_a_token_of_a_policy(hub, device, connect, face):
    token = sas_token(device.resource, hub.policy_key, policy=hub.policy)
    assert connect(device, how="sastoken", sastoken=token).connected


@operation("sign-in: SAS token")
def test_a_new_token_replaces_the_old_one_without_losing_the_session(device, connect, face):
    client = connect(device, how="sastoken", sastoken=device_token(device, lifetime=600))
    client.watch_desired()
    client.update_sastoken(device_token(device, lifetime=1200))
    eventually(lambda: client.connected)
    device.patch_twin({"properties": {"desired": {"after": "renewal"}}})
    assert client.desired_with("after") == "renewal"


@operation("sign-in: SAS token")
def test_the_sdk_renews_its_token_by_itself(device, connect, face):
    """The SDK renews 120 s before the end, so a token of 122 s is renewed after about two seconds."""
    client = connect(device, sastoken_ttl=122)
    client.watch_connection()
    client.wait_for_change()
    client.wait_for_return()
    assert "desired" in client.get_twin()


@operation("sign-in: key")
def test_a_plug_and_play_model_shows_in_the_twin(device, connect, face, registry):
    connect(device, product_info="dtmi:com:example:Thermostat;1")
    twin = eventually(lambda: registry.get_twin(device.device_id).additional_properties.get("modelId"))
    assert twin == "dtmi:com:example:Thermostat;1"


@operation("sign-in: modules")
def test_a_module_signs_in_with_its_own_key(new_module, connect, face, registry):
    module = new_module()
    assert connect(module).connected
    eventually(lambda: registry.get_module(module.device_id, module.module_id).connection_state == "Connected")
    assert registry.get_device(module.device_id).connection_state == "Disconnected"


@operation("sign-in: modules")
def test_a_device_key_does_not_open_a_module(new_device, new_module, connect, face):
    device = new_device()
    module = new_module(of=device)
    module.key = device.key
    with pytest.raises(CredentialError):
        connect(module)


def wrong_key(device):
    device.key = new_key()


def unknown(device):
    device.device_id += "-unknown"


def disabled(device):
    registry = device.hub.registry
    registry.update_device_with_sas(device.device_id, None, device.key, new_key(), "disabled")


def deleted(device):
    device.hub.registry.delete_device(device.device_id)


def other_authentication(device):
    device.hub.registry.update_device_with_certificate_authority(device.device_id, None, "enabled")


@operation("sign-in: refused")
@pytest.mark.parametrize("spoil", [wrong_key, unknown, disabled, deleted, other_authentication])
def test_bad_sign_ins_are_credential_errors(device, connect, face, spoil):
    spoil(device)
    client = connect(device, start=False)
    with pytest.raises(CredentialError):
        client.connect()
    assert not client.connected


@operation("sign-in: refused")
def test_a_token_for_another_device_is_refused(new_device, connect, face):
    device, other = new_device(), new_device()
    token = sas_token(f"{device.hub.hostname}/devices/{device.device_id}", other.key)
    with pytest.raises(CredentialError):
        connect(device, how="sastoken", sastoken=token)


@operation("sign-in: refused")
def test_an_unknown_authority_is_not_trusted_by_the_device(device, connect, face):
    stranger = Certificate("some other authority", is_authority=True)
    text = device.connection_string
    elsewhere = SimpleNamespace(hub=SimpleNamespace(ca_pem=stranger.pem), module_id=None)
    with pytest.raises(ClientError, match="TLS"):
        connect(elsewhere, connection_string=text)


# ---------------------------------------------------------------- telemetry


@operation("telemetry")
def test_messages_with_every_property_are_acknowledged(device, connect, face):
    client = connect(device)
    message = Message("grüße 🚀", message_id=str(uuid.uuid4()), content_type="application/json", content_encoding="utf-8")
    message.correlation_id = "c 1+/"
    message.user_id = "u&=%"
    message.custom_properties["k e"] = "v&=/+$~'"
    message.custom_properties["empty"] = ""
    message.set_as_security_message()
    client.send(message)
    client.send("plain text")
    client.send(Message(b""))


@operation("telemetry")
def test_the_largest_message_passes_and_a_larger_one_is_refused_by_the_sdk(device, connect, face):
    client = connect(device)
    client.send(Message("x" * (255 * 1024)))
    with pytest.raises(ValueError):
        client.send(Message("x" * (257 * 1024)))
    client.send("still here")


@operation("telemetry")
def test_two_hundred_messages_in_a_row(device, connect, face):
    client = connect(device)
    for number in range(200):
        client.send(f"message {number}")


@operation("telemetry")
def test_a_module_sends_to_an_output(new_module, connect, face):
    client = connect(new_module())
    client.send("to the hub")
    client.send_to_output("to a route", "alerts")


# ---------------------------------------------------------------- twin


@operation("twin: read")
def test_the_device_sees_desired_and_reported_and_nothing_else(device, connect, face):
    device.patch_twin({"tags": {"secret": 1}, "properties": {"desired": {"interval": 30, "mode": {"eco": True}}}})
    twin = connect(device).get_twin()
    assert twin == {
        "desired": {"interval": 30, "mode": {"eco": True}, "$version": 2},
        "reported": {"$version": 1},
    }


@operation("twin: report")
def test_reported_properties_merge_and_show_to_the_service(device, connect, face, registry):
    client = connect(device)
    client.report({"fw": "1", "net": {"ip": "10.0.0.1", "mac": "aa"}, "list": [1, {"a": 2}]})
    client.report({"fw": "2", "net": {"mac": None, "up": True}})
    reported = registry.get_twin(device.device_id).properties.reported
    assert values(reported) == {"fw": "2", "net": {"ip": "10.0.0.1", "up": True}, "list": [1, {"a": 2}]}
    assert reported["$version"] == 3
    assert "mac" not in reported["$metadata"]["net"]
    assert client.get_twin()["reported"] == {**values(reported), "$version": 3}


@operation("twin: report")
def test_a_module_reports_to_its_own_twin(new_module, connect, face, registry):
    module = new_module()
    client = connect(module)
    client.report({"open": 40})
    twin = registry.get_module_twin(module.device_id, module.module_id)
    assert values(twin.properties.reported) == {"open": 40}
    assert values(registry.get_twin(module.device_id).properties.reported) == {}
    assert client.get_twin()["reported"]["open"] == 40


@contextlib.contextmanager
def refused_with(status):
    """The SDK wraps the service's status into an error of its own."""
    with pytest.raises(ClientError) as caught:
        yield
    assert isinstance(caught.value.__cause__, ServiceError)
    assert str(status) in str(caught.value.__cause__)


BAD_REPORTS = {
    "a dot in a key": {"a.b": 1},
    "a space in a key": {"a b": 1},
    "a reserved key": {"$own": 1},
    "a null in an array": {"a": [None]},
    "too deep": nested(12),
    "an integer too large": {"n": 2**53},
    "a string too long": {"s": "x" * 4097},
    "too large altogether": filler(32769),
}


@operation("twin: errors")
@pytest.mark.parametrize("name", BAD_REPORTS)
def test_a_refused_report_is_a_service_error_and_changes_nothing(device, connect, face, name):
    client = connect(device)
    with refused_with(400):
        client.report(BAD_REPORTS[name])
    assert client.get_twin()["reported"] == {"$version": 1}
    client.report({"fine": True})


@operation("twin: errors")
def test_32_kib_of_reported_properties_fit_and_one_more_does_not(device, connect, face):
    client = connect(device)
    client.report(filler(32768))
    with refused_with(400):
        client.report({"more": 1})
    assert client.get_twin()["reported"]["$version"] == 2


# ---------------------------------------------------------------- desired notifications


@operation("twin: desired notifications")
def test_a_patch_arrives_with_its_nulls_and_its_version(device, connect, face):
    client = connect(device)
    client.watch_desired()
    device.patch_twin({"properties": {"desired": {"interval": 30, "mode": {"eco": True}}}})
    assert client.next_desired() == {"interval": 30, "mode": {"eco": True}, "$version": 2}
    device.patch_twin({"properties": {"desired": {"interval": None, "mode": {"night": 1}}}})
    assert client.next_desired() == {"interval": None, "mode": {"night": 1}, "$version": 3}


@operation("twin: desired notifications")
def test_a_replacement_tells_what_is_gone(device, connect, face, https):
    device.patch_twin({"properties": {"desired": {"old": 1, "keep": 1}}})
    client = connect(device)
    client.watch_desired()
    assert https.put(device.twin_path, {"properties": {"desired": {"keep": 2}}}).status == 200
    assert client.next_desired() == {"old": None, "keep": 2, "$version": 3}


@operation("twin: desired notifications")
def test_tags_are_none_of_the_devices_business(device, connect, face):
    client = connect(device)
    client.watch_desired()
    device.patch_twin({"tags": {"a": 1}})
    device.patch_twin({"properties": {"desired": {"b": 1}}})
    assert client.next_desired() == {"b": 1, "$version": 2}


@operation("twin: desired notifications")
def test_thirty_patches_arrive_in_order(device, connect, face):
    client = connect(device)
    client.watch_desired()
    for number in range(30):
        device.patch_twin({"properties": {"desired": {"n": number}}})
    received = [client.next_desired() for _ in range(30)]
    assert received == [{"n": number, "$version": number + 2} for number in range(30)]


@operation("twin: desired notifications")
def test_a_module_hears_of_its_own_twin_only(new_module, connect, face):
    module = new_module()
    client = connect(module)
    client.watch_desired()
    device = type(module)(module.hub, module.device_id, None)
    device.patch_twin({"properties": {"desired": {"for": "the device"}}})
    module.patch_twin({"properties": {"desired": {"for": "the module"}}})
    assert client.next_desired()["for"] == "the module"


@operation("twin: desired notifications")
def test_a_change_made_while_offline_is_learned_on_the_next_connect(device, connect, face):
    client = connect(device)
    client.get_twin()  # the SDK's own read after a connect needs this subscription and does not make it
    client.watch_desired()
    device.patch_twin({"properties": {"desired": {"seen": 1}}})
    assert client.next_desired()["seen"] == 1
    client.disconnect()
    device.patch_twin({"properties": {"desired": {"missed": 2}}})
    client.connect()
    assert client.desired_with("missed") == 2


# ---------------------------------------------------------------- the whole story


@operation("story: reboot")
@pytest.mark.parametrize("face", FACES[:2], ids=repr)
def test_the_reboot_story(hub, new_id, connect, face):
    """Register, connect, report, read, invoke; the device answers 20 s later and reports when it came back."""
    registry = hub.registry
    created = registry.create_device_with_sas(new_id("pump"), None, None, "enabled")
    device = Identity(hub, created.device_id, created.authentication.symmetric_key.primary_key)
    client = connect(device)
    client.report({"firmware": "1.4.2"})
    assert registry.get_twin(device.device_id).properties.reported["firmware"] == "1.4.2"

    def reboot(request):
        time.sleep(20)  # the reboot itself: what this story is about
        client.client.patch_twin_reported_properties({"rebootTime": "2030-01-02T03:04:05Z"})
        return 200, {"rebooted": True, "delay": request.payload["delay"]}

    client.on_method(reboot)
    started = time.monotonic()
    result = device.invoke("rebootDevice", {"delay": 20}, response_timeout=60)
    assert 20 <= time.monotonic() - started < 30
    assert (result.status, result.payload) == (200, {"rebooted": True, "delay": 20})
    reported = registry.get_twin(device.device_id).properties.reported
    assert reported["rebootTime"] == "2030-01-02T03:04:05Z"
