"""Bulk registry operations: azure-iot-hub where it shows the answer, plain HTTPS where it hides it."""

import pytest
from azure.iot.hub import models

from hub import new_key
from judges import HTTPS, HUB_SDK
from test_registry import status_of

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)


def entry(device_id, mode, **fields):
    authentication = models.AuthenticationMechanism(
        type="sas", symmetric_key=models.SymmetricKey(primary_key=new_key(), secondary_key=new_key())
    )
    fields.setdefault("authentication", authentication)
    return models.ExportImportDevice(id=device_id, import_mode=mode, **fields)


@sdk
@operation("bulk: create")
def test_bulk_create_registers_a_hundred_devices_with_their_twins(registry, new_id):
    stem = new_id("bulk")
    ids = [f"{stem}-{number}" for number in range(100)]
    desired = models.PropertyContainer(desired={"interval": 30}, reported={})
    result = registry.bulk_create_or_update_devices(
        [entry(device_id, "create", status="enabled", tags={"site": "A"}, properties=desired) for device_id in ids]
    )
    assert result.is_successful is True
    assert not result.errors
    for device_id in (ids[0], ids[99]):
        twin = registry.get_twin(device_id)
        assert twin.tags == {"site": "A"}
        assert twin.properties.desired["interval"] == 30
    removed = registry.bulk_create_or_update_devices([entry(device_id, "delete") for device_id in ids])
    assert removed.is_successful is True
    assert status_of(registry.get_device, ids[50])[0] == 404


@sdk
@operation("bulk: update")
def test_bulk_update_changes_status_and_keys(registry, new_device):
    first, second = new_device(), new_device()
    new_keys = entry(first.device_id, "update", status="disabled", status_reason="recall")
    result = registry.bulk_create_or_update_devices([new_keys, entry(second.device_id, "update", status="enabled")])
    assert result.is_successful is True
    changed = registry.get_device(first.device_id)
    assert (changed.status, changed.status_reason) == ("disabled", "recall")
    wanted = new_keys.authentication.symmetric_key.primary_key
    assert changed.authentication.symmetric_key.primary_key == wanted


@sdk
@operation("bulk: update")
def test_bulk_update_if_match_takes_the_etag(registry, device):
    etag = registry.get_device(device.device_id).etag
    change = entry(device.device_id, "updateIfMatchETag", status="disabled", e_tag=etag)
    assert registry.bulk_create_or_update_devices([change]).is_successful is True
    assert registry.get_device(device.device_id).status == "disabled"


@sdk
@operation("bulk: update")
def test_bulk_update_twin_leaves_the_identity(registry, device):
    before = registry.get_device(device.device_id)
    change = models.ExportImportDevice(
        id=device.device_id,
        import_mode="updateTwin",
        tags={"floor": 3},
        properties=models.PropertyContainer(desired={"a": 1}, reported={}),
    )
    assert registry.bulk_create_or_update_devices([change]).is_successful is True
    twin = registry.get_twin(device.device_id)
    assert twin.tags == {"floor": 3}
    assert twin.properties.desired["a"] == 1
    after = registry.get_device(device.device_id)
    assert after.authentication.symmetric_key.primary_key == before.authentication.symmetric_key.primary_key


@sdk
@operation("bulk: partial failure")
def test_a_partial_failure_is_a_result_and_not_an_exception(registry, device, new_id):
    fresh = new_id()
    entries = [entry(device.device_id, "create"), entry(fresh, "create")]
    result = registry.bulk_create_or_update_devices(entries)
    assert result.is_successful is False
    assert [(error.device_id, error.error_code) for error in result.errors] == [(device.device_id, "DeviceAlreadyExists")]
    assert registry.get_device(fresh).device_id == fresh


@plain
@operation("bulk: partial failure")
def test_good_entries_take_effect_and_bad_ones_are_named(https, device, new_id, registry):
    fresh, absent = new_id(), new_id()
    answer = https.post(
        "/devices",
        [
            {"id": device.device_id, "importMode": "create"},
            {"id": fresh, "importMode": "create"},
            {"id": absent, "importMode": "Update"},
        ],
    )
    assert answer.status == 400
    assert answer.headers["iothub-errorcode"] == "BulkRegistryOperationFailure"
    assert answer.headers["IotHubErrorCode"] == "BulkRegistryOperationFailure"
    assert answer.json["isSuccessful"] is False
    errors = {error["deviceId"]: error for error in answer.json["errors"]}
    assert set(errors) == {device.device_id, absent}
    assert errors[device.device_id]["errorCode"] == "DeviceAlreadyExists"
    assert errors[absent]["errorCode"] == "DeviceNotFound"
    assert all(error["errorStatus"] for error in errors.values())
    assert registry.get_device(fresh).device_id == fresh


@plain
@operation("bulk: partial failure")
def test_a_stale_etag_fails_its_entry_only(https, device):
    answer = https.post("/devices", [{"id": device.device_id, "importMode": "UpdateIfMatchETag", "eTag": "c3RhbGU="}])
    assert answer.status == 400
    assert answer.json["errors"][0]["errorCode"] == "PreconditionFailed"


@plain
@operation("bulk: partial failure")
def test_the_same_device_twice_fails_the_whole_request(https, new_id):
    twice, other = new_id(), new_id()
    entries = [{"id": name, "importMode": "create"} for name in (twice, other, twice)]
    answer = https.post("/devices", entries)
    assert answer.status == 400
    assert answer.message.startswith("ErrorCode:DeviceDefinedMultipleTimes;")
    assert answer.error_code == "DeviceDefinedMultipleTimes"
    assert https.get(f"/devices/{other}").status == 404


@plain
@operation("bulk: partial failure")
def test_more_than_a_hundred_entries_are_refused(https, new_id):
    stem = new_id("many")
    answer = https.post("/devices", [{"id": f"{stem}-{n}", "importMode": "create"} for n in range(101)])
    assert answer.status in (400, 413)
    assert https.get(f"/devices/{stem}-0").status == 404


@plain
@operation("bulk: create")
@pytest.mark.parametrize("mode", ["create", "Create", "createOrUpdate", "CREATEORUPDATE", None])
def test_import_modes_match_without_case_and_default_to_upsert(https, new_id, mode):
    device_id = new_id()
    item = {"id": device_id} if mode is None else {"id": device_id, "importMode": mode}
    answer = https.post("/devices/", [item])
    assert (answer.status, answer.json) == (200, {"isSuccessful": True, "errors": [], "warnings": []})
    assert https.get(f"/devices/{device_id}").status == 200


@plain
@operation("bulk: create")
def test_an_unknown_import_mode_is_refused(https, new_id):
    assert https.post("/devices", [{"id": new_id(), "importMode": "explode"}]).status == 400


@plain
@operation("bulk: create")
def test_bulk_creates_modules(https, device):
    entries = [{"id": device.device_id, "moduleId": "pump", "importMode": "create"}]
    assert https.post("/devices", entries).json["isSuccessful"] is True
    assert https.get(f"/devices/{device.device_id}/modules/pump").status == 200


@plain
@operation("bulk: delete")
@pytest.mark.parametrize("mode", ["delete", "Delete", "DeleteIfMatchETag"])
def test_bulk_deletes(https, device, mode):
    etag = https.get(f"/devices/{device.device_id}").json["etag"]
    answer = https.post("/devices", [{"id": device.device_id, "importMode": mode, "eTag": etag}])
    assert answer.json["isSuccessful"] is True
    assert https.get(f"/devices/{device.device_id}").status == 404
