"""Device identities, judged by azure-iot-hub's IoTHubRegistryManager."""

import base64
import datetime
import uuid

import pytest
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from hub import eventually, new_key
from judges import HUB_SDK

pytestmark = pytest.mark.sdk(HUB_SDK)
operation = pytest.mark.operation

THUMBPRINT = "A1" * 20
OTHER_THUMBPRINT = "B2" * 32
NEVER = datetime.datetime(1, 1, 1)


def status_of(call, *args, **kwargs):
    """The HTTP status and reason phrase of a refused call: all that this SDK lets through."""
    with pytest.raises(HttpOperationError) as caught:
        call(*args, **kwargs)
    response = caught.value.response
    return response.status_code, response.reason


# ---------------------------------------------------------------- create


@operation("device: create with keys")
def test_create_returns_the_identity(registry, new_id):
    device_id, primary, secondary = new_id(), new_key(), new_key()
    device = registry.create_device_with_sas(device_id, primary, secondary, "enabled", status_reason="new on site")
    assert device.device_id == device_id
    assert device.authentication.type == "sas"
    assert device.authentication.symmetric_key.primary_key == primary
    assert device.authentication.symmetric_key.secondary_key == secondary
    assert (device.status, device.status_reason) == ("enabled", "new on site")
    assert device.connection_state == "Disconnected"
    assert device.capabilities.iot_edge is False
    assert device.cloud_to_device_message_count == 0
    assert device.etag and device.generation_id
    for moment in (device.status_updated_time, device.connection_state_updated_time, device.last_activity_time):
        assert moment.replace(tzinfo=None) == NEVER


@operation("device: create with keys")
@pytest.mark.parametrize("given", [(None, None), ("", "")], ids=["null", "empty"])
def test_create_makes_keys_when_none_are_given(registry, new_id, given):
    device = registry.create_device_with_sas(new_id(), *given, "enabled")
    keys = device.authentication.symmetric_key
    for key in (keys.primary_key, keys.secondary_key):
        assert len(base64.b64decode(key, validate=True)) >= 16
    assert keys.primary_key != keys.secondary_key


@operation("device: create with keys")
def test_create_makes_the_missing_key_when_one_is_given(registry, new_id):
    primary = new_key()
    keys = registry.create_device_with_sas(new_id(), primary, None, "enabled").authentication.symmetric_key
    assert keys.primary_key == primary
    assert len(base64.b64decode(keys.secondary_key)) >= 16


@operation("device: create with keys")
@pytest.mark.parametrize(
    ("length", "accepted"), [(15, False), (16, True), (64, True), (65, False)], ids=lambda value: str(value)
)
def test_create_takes_keys_of_16_to_64_bytes(registry, new_id, length, accepted):
    key = base64.b64encode(b"k" * length).decode()
    if accepted:
        device = registry.create_device_with_sas(new_id(), key, key, "enabled")
        assert device.authentication.symmetric_key.primary_key == key
    else:
        assert status_of(registry.create_device_with_sas, new_id(), key, key, "enabled") == (400, "Bad Request")


@operation("device: create with keys")
def test_create_refuses_a_key_that_is_not_base64(registry, new_id):
    assert status_of(registry.create_device_with_sas, new_id(), "not base64!", None, "enabled")[0] == 400


@operation("device: create with X.509 thumbprints")
def test_create_with_thumbprints(registry, new_id):
    device = registry.create_device_with_x509(new_id(), THUMBPRINT, OTHER_THUMBPRINT, "enabled")
    assert device.authentication.type == "selfSigned"
    assert device.authentication.x509_thumbprint.primary_thumbprint.upper() == THUMBPRINT
    assert device.authentication.x509_thumbprint.secondary_thumbprint.upper() == OTHER_THUMBPRINT
    keys = device.authentication.symmetric_key
    assert keys is None or (keys.primary_key, keys.secondary_key) == (None, None)


@operation("device: create with X.509 thumbprints")
@pytest.mark.parametrize("thumbprint", ["A1B2", "Z" * 40, "A" * 41], ids=["short", "not hex", "odd length"])
def test_create_refuses_a_bad_thumbprint(registry, new_id, thumbprint):
    assert status_of(registry.create_device_with_x509, new_id(), thumbprint, None, "enabled")[0] == 400


@operation("device: create CA-signed")
def test_create_with_certificate_authority(registry, new_id):
    device = registry.create_device_with_certificate_authority(new_id(), "enabled", status_reason="by CA")
    assert device.authentication.type == "certificateAuthority"
    assert device.status_reason == "by CA"
    keys = device.authentication.symmetric_key
    assert keys is None or (keys.primary_key, keys.secondary_key) == (None, None)


@operation("device: create with keys")
def test_create_disabled(registry, new_id):
    device = registry.create_device_with_sas(new_id(), None, None, "disabled", status_reason="stolen")
    assert (device.status, device.status_reason) == ("disabled", "stolen")


@operation("device: create with keys")
@pytest.mark.parametrize("length,accepted", [(128, True), (129, False)])
def test_create_takes_a_status_reason_of_up_to_128_characters(registry, new_id, length, accepted):
    if accepted:
        device = registry.create_device_with_sas(new_id(), None, None, "enabled", status_reason="é" * length)
        assert device.status_reason == "é" * length
    else:
        call = registry.create_device_with_sas
        assert status_of(call, new_id(), None, None, "enabled", status_reason="é" * length)[0] == 400


@operation("device: create with keys")
def test_create_of_an_existing_device_conflicts(registry, device):
    call = registry.create_device_with_sas
    assert status_of(call, device.device_id, None, None, "enabled") == (409, "Conflict")


@operation("device: create with keys")
@pytest.mark.parametrize("tail", ["-.%_*?!(),:=@$'", ":;.+", "#", "A", "a"])
def test_create_takes_every_character_of_the_id_alphabet(registry, new_id, tail):
    device_id = new_id() + tail
    assert registry.create_device_with_sas(device_id, None, None, "enabled").device_id == device_id
    assert registry.get_device(device_id).device_id == device_id
    registry.delete_device(device_id)


@operation("device: create with keys")
@pytest.mark.parametrize(
    "device_id", ["a b", "a/b", "ü", "x" * 129, "a\\b", "a\0b", "..%2f", "a&b", 'a"b'], ids=lambda text: ascii(text[:6])
)
def test_create_refuses_ids_outside_the_alphabet(registry, device_id):
    if device_id == "..%2f":
        device_id = "../" + uuid.uuid4().hex
    assert status_of(registry.create_device_with_sas, device_id, None, None, "enabled") == (400, "Bad Request")


@operation("device: create with keys")
def test_ids_are_case_sensitive(registry, new_id):
    lower, upper = new_id("case"), None
    upper = lower.upper()
    registry.create_device_with_sas(lower, None, None, "enabled")
    assert status_of(registry.get_device, upper) == (404, "Not Found")
    registry.create_device_with_sas(upper, None, None, "enabled")
    assert registry.get_device(upper).generation_id != registry.get_device(lower).generation_id
    registry.delete_device(upper)


# ---------------------------------------------------------------- read


@operation("device: read")
def test_get_returns_what_was_created(registry, new_id):
    created = registry.create_device_with_sas(new_id(), new_key(), new_key(), "enabled")
    read = registry.get_device(created.device_id)
    assert read.as_dict() == created.as_dict()


@operation("device: read")
def test_get_of_an_unknown_device_is_not_found(registry, new_id):
    assert status_of(registry.get_device, new_id()) == (404, "Not Found")


@operation("device: list")
def test_get_devices_lists_and_limits(registry, new_device):
    made = {new_device("list").device_id for _ in range(3)}
    listed = registry.get_devices(1000)
    assert made <= {device.device_id for device in listed}
    assert len(registry.get_devices(2)) == 2
    assert all(device.etag and device.generation_id for device in listed)


# ---------------------------------------------------------------- update


@operation("device: update")
def test_update_changes_keys_status_and_reason(registry, device):
    before = registry.get_device(device.device_id)
    primary, secondary = new_key(), new_key()
    after = registry.update_device_with_sas(
        device.device_id, before.etag, primary, secondary, "disabled", status_reason="lost"
    )
    assert after.authentication.symmetric_key.primary_key == primary
    assert after.authentication.symmetric_key.secondary_key == secondary
    assert (after.status, after.status_reason) == ("disabled", "lost")
    assert after.etag != before.etag
    assert after.generation_id == before.generation_id
    assert after.status_updated_time.year > 1


@operation("device: update")
def test_update_with_empty_keys_replaces_both(registry, device):
    before = registry.get_device(device.device_id).authentication.symmetric_key
    after = registry.update_device_with_sas(device.device_id, "*", "", "", "enabled").authentication.symmetric_key
    assert after.primary_key and after.primary_key != before.primary_key
    assert after.secondary_key and after.secondary_key != before.secondary_key


@operation("device: update")
def test_update_changes_the_kind_of_authentication(registry, device):
    device_id = device.device_id
    thumbprints = registry.update_device_with_x509(device_id, None, THUMBPRINT, None, "enabled")
    assert thumbprints.authentication.type == "selfSigned"
    by_authority = registry.update_device_with_certificate_authority(device_id, thumbprints.etag, "enabled")
    assert by_authority.authentication.type == "certificateAuthority"
    back = registry.update_device_with_sas(device_id, by_authority.etag, new_key(), new_key(), "enabled")
    assert back.authentication.type == "sas"
    assert len({thumbprints.etag, by_authority.etag, back.etag}) == 3


@operation("device: update")
def test_update_of_an_unknown_device_is_not_found(registry, new_id):
    call = registry.update_device_with_sas
    assert status_of(call, new_id(), None, new_key(), new_key(), "enabled") == (404, "Not Found")


@operation("conditional writes (If-Match)")
@pytest.mark.parametrize("etag", [None, "*", '"*"', "current", "quoted"])
def test_update_takes_the_etag_in_every_spelling(registry, device, etag):
    current = registry.get_device(device.device_id).etag
    etag = {"current": current, "quoted": f'"{current}"'}.get(etag, etag)
    updated = registry.update_device_with_sas(device.device_id, etag, new_key(), new_key(), "enabled")
    assert updated.etag != current


@operation("conditional writes (If-Match)")
def test_update_with_a_stale_etag_fails(registry, device):
    stale = registry.get_device(device.device_id).etag
    registry.update_device_with_sas(device.device_id, stale, new_key(), new_key(), "enabled")
    call = registry.update_device_with_sas
    answer = status_of(call, device.device_id, stale, new_key(), new_key(), "enabled")
    assert answer == (412, "Precondition Failed")


@operation("conditional writes (If-Match)")
def test_a_twin_write_does_not_change_the_identity_etag(registry, device):
    before = registry.get_device(device.device_id).etag
    device.patch_twin({"tags": {"a": 1}})
    assert registry.get_device(device.device_id).etag == before


# ---------------------------------------------------------------- delete


@operation("device: delete")
def test_delete_removes_device_modules_and_twin(registry, new_module):
    module = new_module()
    registry.delete_device(module.device_id)
    assert status_of(registry.get_device, module.device_id)[0] == 404
    assert status_of(registry.get_twin, module.device_id)[0] == 404
    assert status_of(registry.get_module, module.device_id, module.module_id)[0] == 404


@operation("device: delete")
def test_delete_of_an_unknown_device_is_not_found(registry, new_id):
    assert status_of(registry.delete_device, new_id()) == (404, "Not Found")


@operation("device: delete")
def test_a_deleted_id_comes_back_as_another_generation(registry, device):
    first = registry.get_device(device.device_id)
    device.patch_twin({"tags": {"old": True}, "properties": {"desired": {"old": True}}})
    registry.delete_device(device.device_id)
    second = registry.create_device_with_sas(device.device_id, None, None, "enabled")
    assert second.generation_id != first.generation_id
    twin = registry.get_twin(device.device_id)
    assert not twin.tags
    assert "old" not in twin.properties.desired


@operation("conditional writes (If-Match)")
def test_delete_with_a_stale_etag_fails_and_with_the_current_one_works(registry, device):
    stale = registry.get_device(device.device_id).etag
    current = registry.update_device_with_sas(device.device_id, stale, new_key(), new_key(), "enabled").etag
    assert status_of(registry.delete_device, device.device_id, stale)[0] == 412
    registry.delete_device(device.device_id, current)
    assert status_of(registry.get_device, device.device_id)[0] == 404


# ---------------------------------------------------------------- statistics and sign-in


@operation("statistics")
@pytest.mark.local_only("counts are only ours to predict on a hub that no one else uses")
def test_statistics_count_devices_and_connections(own_hub, new_device, connect):
    registry = own_hub.registry
    first = new_device(on=own_hub)
    new_device(on=own_hub, status="disabled")
    new_device(on=own_hub)
    counts = registry.get_device_registry_statistics()
    assert (counts.total_device_count, counts.enabled_device_count, counts.disabled_device_count) == (3, 2, 1)
    assert registry.get_service_statistics().connected_device_count == 0
    device = connect(first)
    assert registry.get_service_statistics().connected_device_count == 1
    registry.delete_device(first.device_id)
    # The SDK cannot be shut down while it loses its connection.
    eventually(lambda: not device.connected, what="the end of the connection")
    assert registry.get_device_registry_statistics().total_device_count == 2


@operation("service sign-in and rights")
def test_a_wrong_policy_key_is_unauthorized(hub):
    wrong = f"HostName={hub.hostname};SharedAccessKeyName={hub.policy};SharedAccessKey={new_key()}"
    assert status_of(IoTHubRegistryManager.from_connection_string(wrong).get_devices, 1) == (401, "Unauthorized")


@operation("service sign-in and rights")
def test_an_unknown_policy_is_unauthorized(hub):
    wrong = f"HostName={hub.hostname};SharedAccessKeyName=nobody;SharedAccessKey={hub.policy_key}"
    assert status_of(IoTHubRegistryManager.from_connection_string(wrong).get_devices, 1)[0] == 401
