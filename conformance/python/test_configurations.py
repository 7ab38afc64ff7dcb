"""Automatic device configurations: kept by azure-iot-hub, felt by azure-iot-device; shapes in plain HTTPS."""

import uuid
from urllib.parse import quote

import pytest
from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
)

from hub import eventually
from identities import Identity
from judges import HTTPS, HUB_SDK
from rawmqtt import Plain
from test_registry import status_of

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)


class Kept:
    """The configurations of one test; what is left of them is removed at its end, as they act on every device."""

    def __init__(self, hub):
        self.hub = hub
        self.manager = IoTHubConfigurationManager.from_connection_string(hub.connection_string)
        self.ids = []

    def new_id(self):
        self.ids.append(f"cfg-{uuid.uuid4().hex[:10]}")
        return self.ids[-1]

    def create(self, condition="", content=None, priority=10, labels=None, metrics=None, configuration_id=None):
        return self.manager.create_configuration(
            Configuration(
                id=configuration_id or self.new_id(),
                schema_version="1.0",
                content=content or ConfigurationContent(device_content={"properties.desired.cooling": {"fan": 2}}),
                target_condition=condition,
                priority=priority,
                labels=labels or {},
                metrics=metrics,
            )
        )

    def status_on(self, device, configuration_id):
        return device.twin().get("configurations", {}).get(configuration_id, {}).get("status")

    def wait_for(self, device, configuration_id, status):
        eventually(lambda: self.status_on(device, configuration_id) == status, what=f"{configuration_id} {status}")

    def metrics(self, configuration_id, wanted, custom=False):
        def as_wanted():
            found = self.manager.get_configuration(configuration_id)
            return (found.metrics if custom else found.system_metrics).results == wanted

        eventually(as_wanted, what=f"the metrics {wanted}")

    def clear(self):
        for configuration_id in self.ids:
            self.hub.https.delete(f"/configurations/{quote(configuration_id)}")


@pytest.fixture
def kept(hub):
    kept = Kept(hub)
    yield kept
    kept.clear()


@pytest.fixture
def new_group(new_device, new_id):
    """Devices that share a tag, and the condition that holds for them."""

    def make(count=1):
        name = new_id("group")
        devices = [new_device() for _ in range(count)]
        for device in devices:
            device.patch_twin({"tags": {"team": name}})
        return devices, f"tags.team = '{name}'"

    return make


def desired_of(device):
    section = device.twin()["properties"]["desired"]
    return {key: value for key, value in section.items() if not key.startswith("$")}


# ---------------------------------------------------------------- keeping them


@sdk
@operation("configuration: create, read, list")
def test_a_configuration_is_kept_as_it_was_written(kept):
    made = kept.create("tags.site = 'nowhere'", priority=7, labels={"app": "cooling"})
    read = kept.manager.get_configuration(made.id)
    for configuration in (made, read):
        assert configuration.schema_version in ("1.0", "2.0")
        assert (configuration.priority, configuration.labels) == (7, {"app": "cooling"})
        assert configuration.target_condition == "tags.site = 'nowhere'"
        assert configuration.content.device_content == {"properties.desired.cooling": {"fan": 2}}
        assert configuration.created_time_utc.year > 2000
        assert configuration.last_updated_time_utc >= configuration.created_time_utc
    assert read.etag == made.etag != ""


@sdk
@operation("configuration: create, read, list")
def test_a_list_has_all_or_as_many_as_asked(kept):
    ids = {kept.create().id for _ in range(3)}
    assert ids <= {configuration.id for configuration in kept.manager.get_configurations(max_count=500)}
    assert ids <= {configuration.id for configuration in kept.manager.get_configurations()}
    assert len(kept.manager.get_configurations(max_count=2)) == 2


@sdk
@operation("configuration: create, read, list")
@pytest.mark.parametrize("spelling", ["a", "a-b+c%d_e*f!g'h", "1", "x" * 128])
def test_ids_of_the_alphabet(kept, spelling):
    configuration_id = spelling if len(spelling) > 100 else f"{spelling}{uuid.uuid4().hex[:8]}"
    kept.ids.append(configuration_id)
    kept.create(configuration_id=configuration_id)
    assert kept.manager.get_configuration(configuration_id).id == configuration_id


@sdk
@operation("configuration: create, read, list")
@pytest.mark.parametrize("spelling", ["Upper", "a b", "ü", "x" * 129, "a$b"])
def test_ids_outside_the_alphabet_are_refused(kept, spelling):
    assert status_of(kept.create, configuration_id=spelling)[0] == 400


@sdk
@operation("configuration: create, read, list")
def test_an_id_is_used_once(kept):
    made = kept.create()
    assert status_of(kept.create, configuration_id=made.id) == (409, "Conflict")


@sdk
@operation("configuration: create, read, list")
def test_an_unknown_configuration_is_not_found(kept):
    assert status_of(kept.manager.get_configuration, "nothing") == (404, "Not Found")
    assert status_of(kept.manager.delete_configuration, "nothing") == (404, "Not Found")
    assert status_of(kept.manager.update_configuration, Configuration(id="nothing", schema_version="1.0"), "*")[0] == 404


@sdk
@operation("configuration: create, read, list")
@pytest.mark.parametrize(
    "change",
    [
        {"condition": "tags.site = = 1"},
        {"condition": "SELECT * FROM devices"},
        {"priority": -1},
        {"content": ConfigurationContent()},
        {"content": ConfigurationContent(device_content={"tags.x": 1}, module_content={"properties.desired.x": 1})},
        {"content": ConfigurationContent(device_content={"properties.reported.x": 1})},
        {"content": ConfigurationContent(device_content={"properties.desired.a$b": 1})},
        {"content": ConfigurationContent(module_content={"properties.desired.x": 1}), "condition": "tags.x = 1"},
        {"metrics": ConfigurationMetrics(queries={"m": "SELECT * FRM devices"})},
        {"metrics": ConfigurationMetrics(queries={f"m{n}": "SELECT * FROM devices" for n in range(6)})},
    ],
    ids=["condition", "whole query", "priority", "no content", "two contents", "reported", "bad key", "module condition",
         "metric query", "six metrics"],
)  # fmt: skip
def test_what_cannot_work_is_refused(kept, change):
    assert status_of(kept.create, **change)[0] == 400


@plain
@operation("configuration: shapes")
def test_the_errors_are_named(https, kept):
    def put(configuration_id, **fields):
        body = {"id": configuration_id, "schemaVersion": "1.0", "targetCondition": "", "priority": 1,
                "content": {"deviceContent": {"properties.desired.a": 1}}, **fields}  # fmt: skip
        return https.put(f"/configurations/{configuration_id}", body)

    assert https.get("/configurations/nothing").error_code == "ConfigurationNotFound"
    bad = put(kept.new_id(), targetCondition="tags.a = = 1")
    assert (bad.status, bad.error_code) == (400, "InvalidConfigurationTargetCondition")
    bad = put(kept.new_id(), metrics={"queries": {"m": "nonsense"}})
    assert (bad.status, bad.error_code) == (400, "InvalidConfigurationCustomMetricsQuery")
    known = kept.new_id()
    assert put(known).status in (200, 201)
    again = put(known)
    assert (again.status, again.error_code) == (409, "ConfigurationAlreadyExists")
    body = {**https.get(f"/configurations/{known}").json, "content": {"deviceContent": {"properties.desired.b": 1}}}
    changed = https.put(f"/configurations/{known}", body, headers={"If-Match": "*"})
    assert (changed.status, changed.error_code) == (400, "CannotModifyImmutableConfigurationContent")


@plain
@operation("configuration: shapes")
def test_the_shape_of_a_configuration(https, kept):
    configuration_id = kept.create("deviceId = 'nobody'").id
    answer = https.get(f"/configurations/{configuration_id}")
    assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'
    assert set(answer.json["systemMetrics"]["results"]) >= {"targetedCount", "appliedCount"}
    for query in answer.json["systemMetrics"]["queries"].values():
        assert https.post("/devices/query", {"query": query}).status == 200, "a user can run it again"
    assert answer.json["metrics"] == {"results": {}, "queries": {}}
    assert answer.json["content"] == {"deviceContent": {"properties.desired.cooling": {"fan": 2}}}


# ---------------------------------------------------------------- changing them


@sdk
@operation("configuration: update and delete")
def test_condition_priority_labels_and_metrics_can_be_changed(kept):
    made = kept.create("deviceId = 'nobody'")
    made.target_condition, made.priority, made.labels = "deviceId = 'none'", 99, {"b": "c"}
    made.metrics = ConfigurationMetrics(queries={"all": "SELECT deviceId FROM devices WHERE deviceId = 'none'"})
    updated = kept.manager.update_configuration(made, made.etag)
    assert updated.etag != made.etag
    read = kept.manager.get_configuration(made.id)
    assert (read.target_condition, read.priority, read.labels, read.etag) == (
        "deviceId = 'none'",
        99,
        {"b": "c"},
        updated.etag,
    )
    assert read.metrics.queries == made.metrics.queries
    assert read.created_time_utc == made.created_time_utc


@sdk
@operation("configuration: update and delete")
def test_a_stale_etag_is_refused(kept):
    made = kept.create()
    made.priority = 11
    kept.manager.update_configuration(made, made.etag)
    made.priority = 12
    assert status_of(kept.manager.update_configuration, made, made.etag)[0] == 412
    assert status_of(kept.manager.delete_configuration, made.id, made.etag)[0] == 412
    assert kept.manager.update_configuration(made, "*").priority == 12


@sdk
@operation("configuration: update and delete")
def test_content_cannot_be_changed(kept):
    made = kept.create()
    made.content = ConfigurationContent(device_content={"properties.desired.other": 1})
    assert status_of(kept.manager.update_configuration, made, "*") == (400, "Bad Request")


@sdk
@operation("configuration: update and delete")
def test_deleting_with_the_etag(kept):
    made = kept.create()
    kept.manager.delete_configuration(made.id, made.etag)
    assert status_of(kept.manager.get_configuration, made.id)[0] == 404


@sdk
@operation("configuration: update and delete")
def test_reading_does_not_change_the_etag_and_neither_do_devices(kept, new_group):
    (device,), condition = new_group()
    made = kept.create(condition)
    kept.wait_for(device, made.id, "Applied")
    kept.metrics(made.id, {"targetedCount": 1, "appliedCount": 1})
    assert kept.manager.get_configuration(made.id).etag == made.etag


# ---------------------------------------------------------------- what devices see


@sdk
@operation("configuration: apply")
def test_a_connected_device_is_told_what_a_configuration_sets(kept, new_group, connect):
    (device,), condition = new_group()
    client = connect(device)
    client.watch_desired()
    client.get_twin()
    made = kept.create(condition)
    patch = client.next_desired()
    assert patch["cooling"] == {"fan": 2}
    kept.wait_for(device, made.id, "Applied")


@sdk
@operation("configuration: apply")
def test_a_device_that_comes_to_match_is_configured_at_once(kept, new_device, new_id, connect):
    team = new_id("team")
    made = kept.create(f"tags.team = '{team}' AND properties.reported.ready = true")
    device = new_device()
    client = connect(device)
    client.watch_desired()
    client.get_twin()
    device.patch_twin({"tags": {"team": team}})
    client.report({"ready": True})
    assert client.next_desired()["cooling"] == {"fan": 2}
    kept.wait_for(device, made.id, "Applied")
    kept.metrics(made.id, {"targetedCount": 1, "appliedCount": 1})


@sdk
@operation("configuration: apply")
def test_a_new_device_is_configured_too(kept, hub, new_id):
    team, device_id = new_id("team"), new_id()
    made = kept.create(f"tags.team = '{team}'")
    entry = {"id": device_id, "importMode": "create", "tags": {"team": team}}
    assert hub.https.post("/devices", [entry]).status == 200
    wanted = {made.id: {"status": "Applied"}}
    twin = eventually(lambda: (twin := hub.https.get(f"/twins/{device_id}").json).get("configurations") == wanted and twin)
    assert twin["properties"]["desired"]["cooling"] == {"fan": 2}


@sdk
@operation("configuration: apply")
def test_an_empty_condition_targets_nothing(kept, new_group):
    (device,), condition = new_group()
    nothing, something = kept.create(""), kept.create(condition)
    kept.wait_for(device, something.id, "Applied")
    assert kept.status_on(device, nothing.id) is None
    kept.metrics(nothing.id, {"targetedCount": 0, "appliedCount": 0})


@sdk
@operation("configuration: apply")
def test_deep_paths_are_set_and_their_neighbours_stay(kept, new_group):
    (device,), condition = new_group()
    device.patch_twin({"properties": {"desired": {"a": {"b": {"c": 1, "d": 1}, "e": 1}}}})
    content = ConfigurationContent(device_content={"properties.desired.a.b.c": 5, "properties.desired.list": [1, 2]})
    made = kept.create(condition, content)
    kept.wait_for(device, made.id, "Applied")
    assert desired_of(device) == {"a": {"b": {"c": 5, "d": 1}, "e": 1}, "list": [1, 2]}


# ---------------------------------------------------------------- several at once


def fan(speed):
    return ConfigurationContent(device_content={"properties.desired.fan": speed})


@sdk
@operation("configuration: priority and removal")
def test_the_highest_priority_wins_and_the_next_takes_over(kept, new_group):
    (device,), condition = new_group()
    low, high = kept.create(condition, fan(1), priority=1), kept.create(condition, fan(9), priority=9)
    kept.wait_for(device, high.id, "Applied")
    kept.wait_for(device, low.id, "Targeted")
    assert desired_of(device) == {"fan": 9}
    kept.metrics(low.id, {"targetedCount": 1, "appliedCount": 0})
    kept.manager.delete_configuration(high.id)
    kept.wait_for(device, low.id, "Applied")
    assert desired_of(device) == {"fan": 1}
    assert kept.status_on(device, high.id) is None


@sdk
@operation("configuration: priority and removal")
def test_of_equal_priorities_the_newest_wins(kept, new_group):
    (device,), condition = new_group()
    old = kept.create(condition, fan(1))
    kept.wait_for(device, old.id, "Applied")
    new = kept.create(condition, fan(2))
    kept.wait_for(device, new.id, "Applied")
    kept.wait_for(device, old.id, "Targeted")
    assert desired_of(device) == {"fan": 2}


@sdk
@operation("configuration: priority and removal")
def test_a_change_of_priority_changes_the_winner(kept, new_group):
    (device,), condition = new_group()
    first, second = kept.create(condition, fan(1), priority=1), kept.create(condition, fan(2), priority=2)
    kept.wait_for(device, second.id, "Applied")
    first.priority = 3
    kept.manager.update_configuration(first, first.etag)
    kept.wait_for(device, first.id, "Applied")
    assert desired_of(device) == {"fan": 1}


@sdk
@operation("configuration: priority and removal")
def test_a_device_that_stops_matching_loses_what_was_set(kept, new_group, connect):
    (device,), condition = new_group()
    device.patch_twin({"properties": {"desired": {"own": 1}}})
    made = kept.create(condition, fan(1))
    kept.wait_for(device, made.id, "Applied")
    client = connect(device)
    client.watch_desired()
    client.get_twin()
    device.patch_twin({"tags": {"team": "another"}})
    patch = client.next_desired()
    assert patch["fan"] is None
    eventually(lambda: kept.status_on(device, made.id) is None)
    assert desired_of(device) == {"own": 1}
    kept.metrics(made.id, {"targetedCount": 0, "appliedCount": 0})


@sdk
@operation("configuration: priority and removal")
def test_a_change_of_the_condition_moves_a_configuration(kept, new_group):
    (first,), one = new_group()
    (second,), other = new_group()
    made = kept.create(one, fan(1))
    kept.wait_for(first, made.id, "Applied")
    made.target_condition = other
    kept.manager.update_configuration(made, "*")
    kept.wait_for(second, made.id, "Applied")
    eventually(lambda: kept.status_on(first, made.id) is None)
    assert (desired_of(first), desired_of(second)) == ({}, {"fan": 1})


# ---------------------------------------------------------------- modules and the edge


@sdk
@operation("configuration: modules and edge")
def test_a_configuration_for_modules(kept, new_module):
    module = new_module()
    module.patch_twin({"tags": {"team": module.device_id}})
    content = ConfigurationContent(module_content={"properties.desired.speed": 3})
    made = kept.create(f"from devices.modules where tags.team = '{module.device_id}'", content)
    kept.wait_for(module, made.id, "Applied")
    assert desired_of(module) == {"speed": 3}


@pytest.fixture
def edge(hub, new_id):
    """An edge device, by its id."""
    device_id = new_id("edge")
    answer = hub.https.put(f"/devices/{device_id}", {"deviceId": device_id, "capabilities": {"iotEdge": True}})
    assert answer.status == 200
    return device_id


MODULES = {
    "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"filter": {"type": "docker"}}}},
    "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
    "filter": {"properties.desired.threshold": 5},
}


@sdk
@operation("configuration: modules and edge")
def test_content_is_applied_to_one_edge_device(kept, hub, edge):
    assert kept.manager.apply_configuration_on_edge_device(edge, ConfigurationContent(modules_content=MODULES)) is None
    agent = hub.https.get(f"/twins/{edge}/modules/%24edgeAgent").json["properties"]["desired"]
    assert agent["modules"] == {"filter": {"type": "docker"}}
    assert hub.https.get(f"/twins/{edge}/modules/filter").json["properties"]["desired"]["threshold"] == 5


@sdk
@operation("configuration: modules and edge")
def test_content_is_not_applied_to_other_devices(kept, device, new_id):
    apply = kept.manager.apply_configuration_on_edge_device
    assert status_of(apply, device.device_id, ConfigurationContent(modules_content=MODULES))[0] == 400
    assert status_of(apply, new_id(), ConfigurationContent(modules_content=MODULES))[0] == 404


@plain
@operation("configuration: modules and edge")
def test_applying_answers_204_without_a_body(https, edge):
    answer = https.post(f"/devices/{edge}/applyConfigurationContent", {"modulesContent": MODULES})
    assert (answer.status, answer.body) == (204, b"")
    assert https.post(f"/devices/{edge}/applyConfigurationContent", {}).status == 400


@sdk
@operation("configuration: modules and edge")
def test_an_edge_deployment_counts_what_its_agents_report(kept, hub, edge):
    hub.https.patch(f"/twins/{edge}", {"tags": {"team": edge}})
    made = kept.create(f"tags.team = '{edge}'", ConfigurationContent(modules_content=MODULES))
    wanted = {"targetedCount": 1, "appliedCount": 1, "reportedSuccessfulCount": 0, "reportedFailedCount": 0}
    kept.metrics(made.id, wanted)
    agent = f"/modules/{quote('$edgeAgent')}"
    version = hub.https.get(f"/twins/{edge}{agent}").json["properties"]["desired"]["$version"]
    key = hub.https.get(f"/devices/{edge}{agent}").json["authentication"]["symmetricKey"]["primaryKey"]
    client = Plain(Identity(hub, edge, key, "$edgeAgent"))
    assert client.connect()[0] == 0
    client.subscribe(("$iothub/twin/res/#", 0))
    for code, success, failure in ((200, 1, 0), (500, 0, 1)):
        body = f'{{"lastDesiredVersion":{version},"lastDesiredStatus":{{"code":{code}}}}}'.encode()
        assert client.request("$iothub/twin/PATCH/properties/reported/?$rid=1", body)[0] == 204
        wanted = {**wanted, "reportedSuccessfulCount": success, "reportedFailedCount": failure}
        kept.metrics(made.id, wanted)
    client.close()


# ---------------------------------------------------------------- metrics and queries


@sdk
@operation("configuration: metrics and test queries")
def test_custom_metrics_count_rows(kept, new_group, connect):
    (first, second), condition = new_group(2)
    metrics = ConfigurationMetrics(
        queries={
            "ready": f"SELECT deviceId FROM devices WHERE {condition} AND properties.reported.ready = true",
            "all": f"SELECT deviceId FROM devices WHERE {condition}",
        }
    )
    made = kept.create(condition, metrics=metrics)
    kept.metrics(made.id, {"ready": 0, "all": 2}, custom=True)
    connect(first).report({"ready": True})
    kept.metrics(made.id, {"ready": 1, "all": 2}, custom=True)
    assert kept.manager.get_configuration(made.id).metrics.queries == metrics.queries


@sdk
@operation("configuration: metrics and test queries")
def test_queries_are_tested_without_a_configuration(kept):
    good = "SELECT deviceId FROM devices WHERE tags.a = 1"
    answer = kept.manager.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tags.a = 1", custom_metric_queries={"good": good})
    )
    assert not answer.target_condition_error
    assert not answer.custom_metric_query_errors
    answer = kept.manager.test_configuration_queries(
        ConfigurationQueriesTestInput(
            target_condition="tags.a = = 1", custom_metric_queries={"good": good, "bad": "nonsense"}
        )
    )
    assert "1" in answer.target_condition_error
    assert set(answer.custom_metric_query_errors) == {"bad"}


@sdk
@operation("configuration: survives kill -9")
@pytest.mark.local_only("kills the hub process")
def test_a_configuration_and_what_it_set_are_there_after_a_kill(own_hub, new_device):
    kept = Kept(own_hub)
    device = new_device(on=own_hub)
    device.patch_twin({"tags": {"team": "x"}})
    made = kept.create("tags.team = 'x'", fan(1))
    kept.wait_for(device, made.id, "Applied")
    version = device.twin()["properties"]["desired"]["$version"]
    own_hub.kill()
    own_hub.start()
    kept = Kept(own_hub)
    read = kept.manager.get_configuration(made.id)
    assert (read.etag, read.target_condition) == (made.etag, made.target_condition)
    assert (kept.status_on(device, made.id), desired_of(device)) == ("Applied", {"fan": 1})
    late = new_device(on=own_hub)
    late.patch_twin({"tags": {"team": "x"}})
    kept.wait_for(late, made.id, "Applied")
    assert device.twin()["properties"]["desired"]["$version"] == version, "it was not applied again"
    kept.manager.delete_configuration(made.id)
    eventually(lambda: desired_of(device) == {})
