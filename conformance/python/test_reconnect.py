"""What azure-iot-device lives through: cuts, restarts, takeovers, and being thrown out."""

import pytest
from azure.iot.device.exceptions import ConnectionFailedError, CredentialError

from devices import FACES
from hub import eventually, new_key
from judges import DEVICE_SDK
from rawmqtt import Plain

operation = pytest.mark.operation


def everything_works(client, identity, stamp):
    """Twin read, report, notification and method on one live client."""
    client.report({"stamp": stamp})
    assert client.get_twin()["reported"]["stamp"] == stamp
    identity.patch_twin({"properties": {"desired": {"stamp": stamp}}})
    while client.desired_with("stamp") != stamp:
        pass
    assert identity.invoke("echo", stamp, response_timeout=10, connect_timeout=10).payload == stamp


def with_all_features(client):
    client.watch_connection()
    client.watch_desired()
    client.on_method(lambda request: (200, request.payload))
    client.get_twin()
    return client


# ---------------------------------------------------------------- the network


@operation("reconnect: after a cut")
def test_everything_survives_a_cut(wire, device, connect, face):
    client = with_all_features(connect(device))
    everything_works(client, device, "before")
    assert wire.cut() >= 1
    client.wait_for_change()
    client.wait_for_return()
    everything_works(client, device, "after")


@operation("reconnect: after a cut")
def test_a_twin_read_right_after_the_reconnect_does_not_hang(wire, device, connect, face):
    client = connect(device)
    client.watch_connection()
    client.get_twin()
    for _ in range(3):
        wire.cut()
        client.wait_for_change()
        client.wait_for_return()
        assert "desired" in client.get_twin()


@operation("reconnect: after a cut")
def test_a_desired_change_during_the_cut_is_learned(wire, device, connect, face):
    client = with_all_features(connect(device))
    device.patch_twin({"properties": {"desired": {"n": 1}}})
    assert client.next_desired()["n"] == 1
    wire.cut()
    device.patch_twin({"properties": {"desired": {"n": 2}}})
    while client.desired_with("n") != 2:
        pass


@operation("session: subscriptions persist")
def test_subscriptions_survive_a_disconnect_that_the_sdk_asked_for(device, connect, face):
    client = with_all_features(connect(device))
    client.disconnect()
    client.connect()
    everything_works(client, device, "again")


# ---------------------------------------------------------------- the hub


@operation("reconnect: after kill -9")
@pytest.mark.local_only("kills the hub process")
def test_everything_survives_a_kill_of_the_hub(own_hub, new_device, connect, face):
    device = new_device(on=own_hub)
    client = with_all_features(connect(device))
    everything_works(client, device, "before")
    own_hub.kill()
    client.wait_for_change()
    own_hub.start()
    client.wait_for_return()
    twin = device.twin()
    assert twin["properties"]["reported"]["stamp"] == "before"
    assert twin["properties"]["desired"]["stamp"] == "before"
    everything_works(client, device, "after")


@operation("reconnect: after kill -9")
@pytest.mark.local_only("kills the hub process")
@pytest.mark.sdk(DEVICE_SDK + " MQTT")
def test_every_acknowledged_report_is_there_after_a_kill(own_hub, new_device, connect):
    device = new_device(on=own_hub)
    client = connect(device, face=FACES[0])
    for number in range(100):
        client.report({"n": number})
    own_hub.kill()
    own_hub.start()
    reported = device.twin()["properties"]["reported"]
    assert (reported["n"], reported["$version"]) == (99, 101)
    assert own_hub.registry.get_device(device.device_id).authentication.symmetric_key.primary_key == device.key


@operation("reconnect: after a stop")
@pytest.mark.local_only("stops the hub process")
@pytest.mark.sdk(DEVICE_SDK + " MQTT")
def test_a_polite_stop_ends_with_zero_and_loses_nothing(own_hub, new_device, connect):
    device = new_device(on=own_hub)
    client = with_all_features(connect(device, face=FACES[0]))
    everything_works(client, device, "before")
    assert own_hub.stop() == 0
    own_hub.start()
    eventually(lambda: client.connected, 20)
    everything_works(client, device, "after")


# ---------------------------------------------------------------- other clients


@operation("takeover")
def test_the_newest_connection_wins(device, connect, face, registry):
    first = connect(device, connection_retry=False)
    first.watch_connection()
    second = connect(device)
    first.wait_for_change()
    assert second.connected
    assert "desired" in second.get_twin()
    assert registry.get_device(device.device_id).connection_state == "Connected"


@operation("takeover")
def test_a_takeover_and_back_leaves_the_client_whole(device, connect, face):
    client = with_all_features(connect(device))
    everything_works(client, device, "before")
    usurper = Plain(device, clean_session=False)
    assert usurper.connect()[0] == 0
    usurper.wait_closed()  # the SDK reconnects at once and takes its place back
    eventually(lambda: client.connected)
    everything_works(client, device, "after")


@operation("takeover")
def test_a_module_does_not_displace_its_device(device, new_module, connect, face):
    first = connect(device)
    first.watch_connection()
    second = connect(new_module(of=device))
    assert "desired" in first.get_twin()
    assert "desired" in second.get_twin()
    assert first.connection_changes.empty()


# ---------------------------------------------------------------- thrown out


def refused(client):
    """True once a sign-in fails for its credentials; the echo of the SDK's own attempt may fail it otherwise first."""
    try:
        client.connect()
    except CredentialError:
        return True
    except ConnectionFailedError:
        return False
    pytest.fail("the device signed in")


def disable(device):
    device.hub.registry.update_device_with_sas(device.device_id, None, device.key, new_key(), "disabled")


def delete(device):
    device.hub.registry.delete_device(device.device_id)


def change_keys(device):
    device.hub.registry.update_device_with_sas(device.device_id, None, new_key(), new_key(), "enabled")


def change_authentication(device):
    device.hub.registry.update_device_with_certificate_authority(device.device_id, None, "enabled")


@operation("thrown out: disabled, deleted, keys changed")
@pytest.mark.parametrize("throw_out", [disable, delete, change_keys, change_authentication])
def test_a_live_connection_ends_and_the_next_sign_in_is_refused(device, connect, face, throw_out):
    # Its own attempts would race ours inside the SDK, whose connect then may never return.
    client = connect(device, connection_retry=False)
    client.watch_connection()
    throw_out(device)
    client.wait_for_change()
    assert isinstance(client.background_errors.get(timeout=20), Exception)
    eventually(lambda: refused(client), what="the refusal")


@operation("thrown out: disabled, deleted, keys changed")
def test_a_device_enabled_again_comes_back(device, connect, face, registry):
    # Its own attempts would race ours inside the SDK, whose connect then may never return.
    client = connect(device, connection_retry=False)
    client.watch_connection()
    disable(device)
    client.wait_for_change()
    eventually(lambda: refused(client), what="the refusal")
    registry.update_device_with_sas(device.device_id, None, device.key, new_key(), "enabled")
    client.connect()
    assert "desired" in client.get_twin()


@operation("thrown out: disabled, deleted, keys changed")
def test_deleting_a_module_ends_its_connection_only(device, new_module, connect, face, registry):
    module = new_module(of=device)
    of_device, of_module = connect(device), connect(module)
    of_device.watch_connection()
    of_module.watch_connection()
    registry.delete_module(module.device_id, module.module_id)
    of_module.wait_for_change()
    assert "desired" in of_device.get_twin()
    assert of_device.connection_changes.empty()


@operation("thrown out: disabled, deleted, keys changed")
def test_a_change_of_the_other_key_or_of_the_reason_leaves_the_connection(device, connect, face, https):
    client = connect(device)
    client.watch_connection()
    identity = https.get(f"/devices/{device.device_id}").json
    identity["statusReason"] = "nothing to see"
    assert https.put(f"/devices/{device.device_id}", identity, headers={"If-Match": "*"}).status == 200
    assert "desired" in client.get_twin()
    assert client.connection_changes.empty()
