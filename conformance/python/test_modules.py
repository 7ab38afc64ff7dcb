"""Module identities, judged by azure-iot-hub."""

import pytest

from hub import new_key
from judges import HUB_SDK
from test_registry import OTHER_THUMBPRINT, THUMBPRINT, status_of

pytestmark = pytest.mark.sdk(HUB_SDK)
operation = pytest.mark.operation


@operation("module: create")
def test_create_with_keys(registry, device):
    primary, secondary = new_key(), new_key()
    module = registry.create_module_with_sas(device.device_id, "valve", "tests", primary, secondary)
    assert (module.device_id, module.module_id, module.managed_by) == (device.device_id, "valve", "tests")
    assert module.authentication.type == "sas"
    assert module.authentication.symmetric_key.primary_key == primary
    assert module.authentication.symmetric_key.secondary_key == secondary
    assert module.connection_state == "Disconnected"
    assert module.etag and module.generation_id


@operation("module: create")
def test_create_with_thumbprints(registry, device):
    module = registry.create_module_with_x509(device.device_id, "cam", "", THUMBPRINT, OTHER_THUMBPRINT)
    assert module.authentication.type == "selfSigned"
    assert module.authentication.x509_thumbprint.primary_thumbprint.upper() == THUMBPRINT


@operation("module: create")
def test_create_with_certificate_authority(registry, device):
    module = registry.create_module_with_certificate_authority(device.device_id, "cam", "")
    assert module.authentication.type == "certificateAuthority"


@operation("module: create")
def test_create_on_an_unknown_device_is_not_found(registry, new_id):
    call = registry.create_module_with_sas
    assert status_of(call, new_id(), "valve", "", new_key(), new_key())[0] == 404


@operation("module: create")
def test_create_of_an_existing_module_conflicts(registry, new_module):
    module = new_module()
    call = registry.create_module_with_sas
    assert status_of(call, module.device_id, module.module_id, "", new_key(), new_key()) == (409, "Conflict")


@operation("module: create")
def test_a_device_holds_fifty_modules_and_no_more(registry, device):
    for number in range(50):
        registry.create_module_with_certificate_authority(device.device_id, f"m{number}", "")
    call = registry.create_module_with_certificate_authority
    assert status_of(call, device.device_id, "one-too-many", "")[0] in (400, 403, 413)
    assert len(registry.get_modules(device.device_id)) == 50


@operation("module: read")
def test_get_returns_what_was_created(registry, device):
    created = registry.create_module_with_sas(device.device_id, "valve", "tests", new_key(), new_key())
    assert registry.get_module(device.device_id, "valve").as_dict() == created.as_dict()


@operation("module: read")
def test_get_of_an_unknown_module_is_not_found(registry, device, new_id):
    assert status_of(registry.get_module, device.device_id, "valve") == (404, "Not Found")
    assert status_of(registry.get_module, new_id(), "valve") == (404, "Not Found")


@operation("module: list")
def test_get_modules_lists_the_modules_of_one_device(registry, new_module, device, new_id):
    module = new_module()
    new_module(of=module, module_id="pump")
    assert {entry.module_id for entry in registry.get_modules(module.device_id)} == {"valve", "pump"}
    assert registry.get_modules(device.device_id) == []
    assert status_of(registry.get_modules, new_id())[0] == 404


@operation("module: update")
def test_update_changes_authentication_and_owner(registry, new_module):
    module = new_module()
    where = (module.device_id, module.module_id)
    before = registry.get_module(*where)
    primary = new_key()
    after = registry.update_module_with_sas(*where, "others", before.etag, primary, new_key())
    assert after.managed_by == "others"
    assert after.authentication.symmetric_key.primary_key == primary
    assert after.etag != before.etag
    assert after.generation_id == before.generation_id
    assert registry.update_module_with_x509(*where, "", None, THUMBPRINT, None).authentication.type == "selfSigned"
    by_authority = registry.update_module_with_certificate_authority(*where, "", None)
    assert by_authority.authentication.type == "certificateAuthority"


@operation("conditional writes (If-Match)")
def test_module_writes_obey_the_etag(registry, new_module):
    module = new_module()
    where = (module.device_id, module.module_id)
    stale = registry.get_module(*where).etag
    current = registry.update_module_with_sas(*where, "", stale, new_key(), new_key()).etag
    assert status_of(registry.update_module_with_sas, *where, "", stale, new_key(), new_key())[0] == 412
    assert status_of(registry.delete_module, *where, stale)[0] == 412
    registry.delete_module(*where, current)
    assert status_of(registry.get_module, *where)[0] == 404


@operation("module: delete")
def test_delete_leaves_the_device(registry, new_module):
    module = new_module()
    registry.delete_module(module.device_id, module.module_id)
    assert status_of(registry.get_module, module.device_id, module.module_id)[0] == 404
    assert status_of(registry.delete_module, module.device_id, module.module_id)[0] == 404
    assert registry.get_device(module.device_id).device_id == module.device_id
