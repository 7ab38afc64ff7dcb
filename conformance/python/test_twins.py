"""Twins from the service side: azure-iot-hub for its models, plain HTTPS where exact bytes matter."""

import concurrent.futures
import json
import re

import pytest
from azure.iot.hub.models import Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from judges import HTTPS, HUB_SDK
from test_registry import status_of

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")


def desired(**values):
    return Twin(properties=TwinProperties(desired=values))


def values(section):
    return {key: value for key, value in section.items() if not key.startswith("$")}


def nested(depth, leaf=1):
    """An object with `depth` levels of keys; the innermost holds the leaf."""
    document = leaf
    for level in range(depth):
        document = {f"l{level}": document}
    return document


# ---------------------------------------------------------------- with the SDK


@sdk
@operation("twin: read")
def test_a_fresh_twin(registry, device):
    twin = registry.get_twin(device.device_id)
    assert twin.device_id == device.device_id
    assert twin.etag == "AAAAAAAAAAE="
    assert twin.version == 2
    assert twin.device_etag == registry.get_device(device.device_id).etag
    assert (twin.status, twin.connection_state, twin.authentication_type) == ("enabled", "Disconnected", "sas")
    assert not twin.tags
    for section in (twin.properties.desired, twin.properties.reported):
        assert values(section) == {}
        assert section["$version"] == 1
        assert "$lastUpdated" in section["$metadata"]


@sdk
@operation("twin: read")
def test_get_of_an_unknown_twin_is_not_found(registry, device, new_id):
    assert status_of(registry.get_twin, new_id()) == (404, "Not Found")
    assert status_of(registry.get_module_twin, device.device_id, "nothing") == (404, "Not Found")


@sdk
@operation("twin: update")
def test_update_merges_tags_and_desired(registry, device):
    first = registry.update_twin(
        device.device_id, Twin(tags={"site": {"city": "Ulm", "floor": 2}}, properties=TwinProperties(desired={"a": 1}))
    )
    assert first.tags == {"site": {"city": "Ulm", "floor": 2}}
    assert first.properties.desired["$version"] == 2
    second = registry.update_twin(
        device.device_id,
        Twin(tags={"site": {"floor": None, "room": "b"}}, properties=TwinProperties(desired={"b": [1, {"c": "d"}]})),
    )
    assert second.tags == {"site": {"city": "Ulm", "room": "b"}}
    assert values(second.properties.desired) == {"a": 1, "b": [1, {"c": "d"}]}
    assert second.properties.desired["$version"] == 3
    assert second.version > first.version
    assert second.etag != first.etag
    assert registry.get_twin(device.device_id).as_dict() == second.as_dict()


@sdk
@operation("twin: update")
def test_null_removes_and_metadata_follows(registry, device):
    registry.update_twin(device.device_id, desired(keep=1, drop={"x": 1}))
    twin = registry.update_twin(device.device_id, desired(drop=None, never_there=None))
    assert values(twin.properties.desired) == {"keep": 1}
    assert "drop" not in twin.properties.desired["$metadata"]
    assert twin.properties.desired["$metadata"]["keep"]["$lastUpdatedVersion"] == 2
    assert twin.properties.desired["$metadata"]["$lastUpdatedVersion"] == 3


@sdk
@operation("twin: update")
def test_an_update_that_changes_nothing_still_counts(registry, device):
    first = registry.update_twin(device.device_id, desired(a=1))
    second = registry.update_twin(device.device_id, desired(a=1))
    assert second.properties.desired["$version"] == first.properties.desired["$version"] + 1
    assert second.etag != first.etag


@sdk
@operation("twin: update")
def test_only_tags_and_desired_are_writable(registry, device):
    whole = registry.get_twin(device.device_id)
    whole.properties.reported["sneaky"] = 1
    whole.status = "disabled"
    whole.version = 99
    written = registry.update_twin(device.device_id, whole)
    assert "sneaky" not in written.properties.reported
    assert (written.status, written.properties.reported["$version"]) == ("enabled", 1)
    assert written.version < 99


@sdk
@operation("twin: replace")
def test_replace_leaves_what_was_sent_and_reported(registry, device, connect):
    registry.update_twin(device.device_id, Twin(tags={"a": 1}, properties=TwinProperties(desired={"old": 1, "keep": 1})))
    client = connect(device)
    client.report({"fw": "1"})
    twin = registry.replace_twin(
        device.device_id, Twin(tags={"b": 2}, properties=TwinProperties(desired={"keep": 2, "gone": None}))
    )
    assert twin.tags == {"b": 2}
    assert values(twin.properties.desired) == {"keep": 2}
    assert values(twin.properties.reported) == {"fw": "1"}
    assert set(twin.properties.desired["$metadata"]) == {"$lastUpdated", "$lastUpdatedVersion", "keep"}


@sdk
@operation("conditional writes (If-Match)")
@pytest.mark.parametrize("write", ["update_twin", "replace_twin"])
@pytest.mark.parametrize("etag", [None, "*", '"*"', "current", "quoted"])
def test_twin_writes_take_the_etag_in_every_spelling(registry, device, write, etag):
    current = registry.get_twin(device.device_id).etag
    etag = {"current": current, "quoted": f'"{current}"'}.get(etag, etag)
    assert getattr(registry, write)(device.device_id, desired(a=1), etag).etag != current


@sdk
@operation("conditional writes (If-Match)")
@pytest.mark.parametrize("write", ["update_twin", "replace_twin"])
def test_twin_writes_with_a_stale_etag_change_nothing(registry, device, write):
    stale = registry.get_twin(device.device_id).etag
    registry.update_twin(device.device_id, desired(a=1))
    answer = status_of(getattr(registry, write), device.device_id, desired(a=2), stale)
    assert answer == (412, "Precondition Failed")
    assert registry.get_twin(device.device_id).properties.desired["a"] == 1


@sdk
@operation("twin: modules")
def test_module_twins_are_read_updated_and_replaced(registry, new_module):
    module = new_module()
    where = (module.device_id, module.module_id)
    fresh = registry.get_module_twin(*where)
    assert (fresh.device_id, fresh.module_id) == where
    updated = registry.update_module_twin(*where, Twin(tags={"t": 1}, properties=TwinProperties(desired={"a": 1})))
    assert (updated.tags, updated.properties.desired["a"]) == ({"t": 1}, 1)
    assert status_of(registry.update_module_twin, *where, desired(a=2), fresh.etag)[0] == 412
    replaced = registry.replace_module_twin(*where, desired(b=2), updated.etag)
    assert values(replaced.properties.desired) == {"b": 2}
    assert not replaced.tags
    assert values(registry.get_twin(module.device_id).properties.desired) == {}


@sdk
@operation("conditional writes (If-Match)")
def test_of_twenty_writers_with_one_etag_exactly_one_wins(hub, registry, device):
    etag = registry.get_twin(device.device_id).etag

    def write(number):
        try:
            hub.registry.update_twin(device.device_id, desired(winner=number), etag)
            return number
        except HttpOperationError as error:
            assert error.response.status_code == 412
            return None

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        winners = [number for number in pool.map(write, range(20)) if number is not None]
    assert winners == [registry.get_twin(device.device_id).properties.desired["winner"]]


@sdk
@operation("twin: update")
def test_of_twenty_unconditional_writers_none_is_lost(hub, registry, device):
    def write(number):
        hub.registry.update_twin(device.device_id, desired(**{f"key{number}": number}))

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(20)))
    section = registry.get_twin(device.device_id).properties.desired
    assert values(section) == {f"key{number}": number for number in range(20)}
    assert section["$version"] == 21


# ---------------------------------------------------------------- exact bytes


@plain
@operation("twin: read")
def test_etag_header_is_quoted_and_body_is_bare(https, device):
    for answer in (https.get(device.twin_path), https.patch(device.twin_path, {"tags": {"a": 1}})):
        assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'
        assert answer.headers["Content-Type"].startswith("application/json")


@plain
@operation("twin: read")
def test_times_are_iso_8601_utc(https, device):
    twin = device.patch_twin({"properties": {"desired": {"a": {"b": 1}}}})
    metadata = twin["properties"]["desired"]["$metadata"]
    for node in (metadata, metadata["a"], metadata["a"]["b"]):
        assert TIMESTAMP.fullmatch(node["$lastUpdated"])
        assert node["$lastUpdatedVersion"] == 2
    assert "$lastUpdatedVersion" not in twin["properties"]["reported"]["$metadata"]


@plain
@operation("twin: read")
def test_values_come_before_metadata_and_the_encoding_is_compact(https, device):
    device.patch_twin({"properties": {"desired": {"alpha": {"beta": [1, 2]}}}})
    text = https.get(device.twin_path).text
    assert '"desired":{"alpha":{"beta":[1,2]},"$metadata":{' in text
    assert '"reported":{"$metadata":{' in text


NUMBERS = ["1", "1.0", "-0.5", "1e3", "4503599627370495", "-4503599627370496", "0.1", "3.141592653589793"]


@plain
@operation("twin: number and key fidelity")
def test_numbers_keep_their_text(https, device):
    pairs = ",".join(f'"n{index}":{number}' for index, number in enumerate(NUMBERS))
    patch = '{"properties":{"desired":{%s,"in":{"array":[%s]}}}}' % (pairs, ",".join(NUMBERS))
    answer = https.patch(device.twin_path, patch)
    assert answer.status == 200, answer
    for text in (answer.text, https.get(device.twin_path).text):
        assert pairs in text
        assert '"array":[%s]' % ",".join(NUMBERS) in text


@plain
@operation("twin: number and key fidelity")
def test_keys_keep_the_order_in_which_they_came(https, device):
    https.patch(device.twin_path, '{"tags":{"zeta":1,"alpha":2,"mid":{"z":1,"a":2}}}')
    https.patch(device.twin_path, '{"tags":{"alpha":3,"beta":4}}')
    assert '"tags":{"zeta":1,"alpha":3,"mid":{"z":1,"a":2},"beta":4}' in https.get(device.twin_path).text


@plain
@operation("twin: number and key fidelity")
@pytest.mark.parametrize("text", ["grüße 🚀", 'quote " and \\', "", "line\nfeed", "\u2028"], ids=ascii)
def test_strings_come_back_whole(https, device, text):
    device.patch_twin({"tags": {"text": text}})
    assert https.get(device.twin_path).json["tags"]["text"] == text


@plain
@operation("twin: read")
def test_tags_are_absent_when_empty(https, device):
    device.patch_twin({"tags": {"a": 1}})
    device.patch_twin({"tags": {"a": None}})
    assert "tags" not in https.get(device.twin_path).json


@plain
@operation("twin: update")
@pytest.mark.parametrize("section", ["tags", "desired"])
def test_null_for_a_whole_section_clears_it(https, device, section):
    patch = {"tags": {"a": 1}} if section == "tags" else {"properties": {"desired": {"a": 1}}}
    cleared = {"tags": None} if section == "tags" else {"properties": {"desired": None}}
    device.patch_twin(patch)
    twin = device.patch_twin(cleared)
    left = twin.get("tags", {}) if section == "tags" else values(twin["properties"]["desired"])
    assert left == {}


@plain
@operation("twin: update")
def test_patch_via_post_and_override(https, device):
    override = {"X-HTTP-Method-Override": "PATCH"}
    answer = https.post(device.twin_path, {"tags": {"by": "java"}}, headers=override)
    assert (answer.status, answer.json["tags"]) == (200, {"by": "java"})


@plain
@operation("twin: update")
def test_versions_move_as_published(https, device):
    """The table of service §8.3: (patch, desired $version moves, twin version moves)."""
    cases = [
        ({"properties": {"desired": {"a": 1}}}, 1, 1),
        ({"properties": {"desired": {"a": 1}}}, 1, 1),
        ({"tags": {"t": 1}}, 0, 1),
        ({"tags": {"t": 2}, "properties": {"desired": {"b": 1}}}, 1, 1),
        ({"properties": {"desired": {"a": None}}}, 1, 1),
    ]
    before = device.twin()
    for patch, of_desired, of_twin in cases:
        after = device.patch_twin(patch)
        moved = (
            after["properties"]["desired"]["$version"] - before["properties"]["desired"]["$version"],
            after["version"] - before["version"],
            after["etag"] != before["etag"],
        )
        assert moved == (of_desired, of_twin, True), patch
        before = after


@plain
@operation("twin: update")
def test_a_reported_patch_moves_only_reported_and_the_twin_version(https, device, connect):
    before = device.twin()
    connect(device).report({"a": 1})
    after = device.twin()
    assert after["properties"]["reported"]["$version"] == before["properties"]["reported"]["$version"] + 1
    assert after["properties"]["desired"]["$version"] == before["properties"]["desired"]["$version"]
    assert after["version"] == before["version"] + 1


@plain
@operation("twin: update")
def test_an_identity_write_does_not_change_the_twin_etag(https, device):
    before = device.twin()
    identity = https.get(f"/devices/{device.device_id}").json
    identity["statusReason"] = "because"
    answer = https.put(f"/devices/{device.device_id}", identity, headers={"If-Match": '"*"'})
    assert answer.status == 200
    after = device.twin()
    assert (after["etag"], after["version"]) == (before["etag"], before["version"])
    assert after["deviceEtag"] == answer.json["etag"] != before["deviceEtag"]
    assert after["statusReason"] == "because"


# ---------------------------------------------------------------- rules and limits

DESIRED_RULES = {
    "ten levels of objects, as in the documentation": (nested(11), True),
    "eleven levels of objects": (nested(12), False),
    "string of 4096 bytes": ({"s": "x" * 4096}, True),
    "string of 4097 bytes": ({"s": "x" * 4097}, False),
    "multi-byte string over 4096 bytes": ({"s": "é" * 2049}, False),
    "largest integer": ({"n": 4503599627370495}, True),
    "integer above 2^52": ({"n": 4503599627370496}, False),
    "smallest integer": ({"n": -4503599627370496}, True),
    "integer below -2^52": ({"n": -4503599627370497}, False),
    "key of 1024 bytes": ({"k" * 1024: 1}, True),
    "key of 1025 bytes": ({"k" * 1025: 1}, False),
    "dot in a key": ({"a.b": 1}, False),
    "space in a key": ({"a b": 1}, False),
    "dollar in a key": ({"a$b": 1}, False),
    "reserved key": ({"$other": 1}, False),
    "control character in a key": ({"a\u0007b": 1}, False),
    "C1 control character in a key": ({"a\u0085b": 1}, False),
    "bad key deep inside": ({"a": {"b": {"c.d": 1}}}, False),
    "bad key in an object of an array": ({"a": [{"c.d": 1}]}, False),
    "null in an array": ({"a": [1, None]}, False),
    "other alphabets in a key": ({"größe-ключ": 1}, True),
    "the component marker": ({"part": {"__t": "c", "x": 1}}, True),
    "$version and $metadata sent back": ({"$version": 77, "$metadata": {"x": 1}, "a": 1}, True),
}


@plain
@operation("twin: rules and limits")
@pytest.mark.parametrize("name", DESIRED_RULES)
def test_desired_values_obey_the_rules(https, device, name):
    document, accepted = DESIRED_RULES[name]
    answer = https.patch(device.twin_path, {"properties": {"desired": document}})
    after = device.twin()["properties"]["desired"]
    if accepted:
        assert answer.status == 200, answer
        assert values(after) == {key: value for key, value in document.items() if not key.startswith("$")}
        assert after["$version"] == 2
    else:
        assert answer.status == 400
        assert re.match(r"ErrorCode:\w+;.+", answer.message)
        assert (values(after), after["$version"]) == ({}, 1), "a refused patch changes nothing"


def filler(size):
    """A document that counts `size` bytes: ten-byte keys and strings of at most 4000 bytes."""
    document, number = {}, 0
    while size > 0:
        chunk = min(size - 10, 4000)
        document[f"key{number:07}"] = "x" * chunk
        size -= chunk + 10
        number += 1
    return document


@plain
@operation("twin: rules and limits")
@pytest.mark.parametrize("section,limit", [("tags", 8192), ("desired", 32768)])
def test_sections_are_limited_in_size(https, device, section, limit):
    def patch(document):
        return {"tags": document} if section == "tags" else {"properties": {"desired": document}}

    assert https.patch(device.twin_path, patch(filler(limit))).status == 200
    answer = https.patch(device.twin_path, patch({"one-more": 1}))
    assert (answer.status, answer.error_code) == (400, "ArgumentInvalid")
    assert re.match(r"ErrorCode:ArgumentInvalid;.+", answer.message)


MALFORMED = {
    "no JSON": b"{nope",
    "empty body": b"",
    "an array": b"[]",
    "a string": b'"x"',
    "tags not an object": b'{"tags":1}',
    "desired not an object": b'{"properties":{"desired":[1]}}',
    "properties not an object": b'{"properties":"x"}',
    "trailing text": b"{} {}",
    "invalid UTF-8": b'{"tags":{"a":"\xff"}}',
    "a lone surrogate": b'{"tags":{"a":"\\ud800"}}',
    "a thousand levels": b'{"tags":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
    "a hundred thousand brackets": b"[" * 100_000,
}


@plain
@operation("twin: rules and limits")
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bodies_are_bad_requests(https, device, name):
    for method in ("PATCH", "PUT"):
        answer = https.request(method, device.twin_path, body=MALFORMED[name])
        assert answer.status == 400, (method, answer)
        assert re.match(r"ErrorCode:\w+;.*", answer.message)
        assert answer.error_code
    assert device.twin()["version"] == 2


@plain
@operation("twin: replace")
def test_replace_empties_the_sections_that_are_left_out(https, device):
    device.patch_twin({"tags": {"a": 1}, "properties": {"desired": {"b": 1}}})
    answer = https.put(device.twin_path, {"properties": {"desired": {"c": 1}}})
    assert answer.status == 200
    assert "tags" not in answer.json
    assert values(answer.json["properties"]["desired"]) == {"c": 1}


@plain
@operation("twin: read")
def test_the_identity_shows_in_the_twin(https, new_id):
    device_id = new_id()
    body = {"deviceId": device_id, "authentication": {"type": "certificateAuthority"}, "status": "disabled"}
    assert https.put(f"/devices/{device_id}", body).status == 200
    twin = https.get(f"/twins/{device_id}").json
    assert (twin["authenticationType"], twin["status"]) == ("certificateAuthority", "disabled")
    assert twin["x509Thumbprint"] == {"primaryThumbprint": None, "secondaryThumbprint": None}
    assert twin["capabilities"] == {"iotEdge": False}
    assert json.dumps(twin["cloudToDeviceMessageCount"]) == "0"
