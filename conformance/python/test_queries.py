"""Twin queries: azure-iot-hub where it shows the answer, plain HTTPS for headers, texts and exact bytes."""

import json

import pytest
from azure.iot.hub import models
from msrest.exceptions import DeserializationError

from devices import FACES
from hub import LocalHub
from judges import HTTPS, HUB_SDK
from scheduled import Jobs
from test_configurations import Kept
from test_registry import status_of

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)


def ask(registry, text, token=None, page=None):
    return registry.query_iot_hub(models.QuerySpecification(query=text), token, page)


def post(https, text, **headers):
    return https.post(
        "/devices/query", {"query": text}, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def every_row(registry, text, page=None):
    """All rows over all pages, and the sizes of the pages."""
    rows, sizes, token = [], [], None
    while True:
        result = ask(registry, text, token, page)
        rows += result.items
        sizes.append(len(result.items))
        token = result.continuation_token
        if token is None:
            return rows, sizes


class Fleet:
    """Devices that share a tag which no other test uses."""

    def __init__(self, hub, name, ids):
        self.hub = hub
        self.name = name
        self.ids = ids
        self.where = f"tags.fleet = '{name}'"
        self.everything = f"SELECT * FROM devices WHERE {self.where}"


@pytest.fixture
def new_fleet(hub, new_id):
    """Registers `count` devices whose tags are `{"fleet": …, "n": 0…}` and, beside them, what `tags(n)` says."""

    def make(count, tags=lambda _: {}, on=None):
        on = on or hub
        name = new_id("fleet")
        ids = [f"{name}-{number:05}" for number in range(count)]
        entries = [
            {"id": device_id, "importMode": "create", "status": "enabled",
             "tags": {"fleet": name, "n": number, **tags(number)}}
            for number, device_id in enumerate(ids)
        ]  # fmt: skip
        for start in range(0, count, 100):
            assert on.https.post("/devices", entries[start : start + 100]).status == 200
        return Fleet(on, name, ids)

    return make


@pytest.fixture(scope="module")
def strict_hub():
    hub = LocalHub(settings={"OSTLER_COMPAT": "strict"})
    yield hub
    hub.discard()


# ---------------------------------------------------------------- rows


@sdk
@operation("query: twins")
def test_a_star_gives_the_twins_themselves(registry, device):
    device.patch_twin({"tags": {"site": "A"}, "properties": {"desired": {"interval": 30}}})
    result = ask(registry, f"SELECT * FROM devices WHERE deviceId = '{device.device_id}'")
    assert (result.type, result.continuation_token) == ("Twin", None)
    (twin,) = result.items
    assert twin.serialize(keep_readonly=True) == registry.get_twin(device.device_id).serialize(keep_readonly=True)
    assert twin.tags == {"site": "A"}


@plain
@operation("query: twins")
def test_a_row_is_what_the_twin_route_answers(https, device):
    device.patch_twin({"tags": {"site": "A"}, "properties": {"desired": {"interval": 30, "one": 1.0}}})
    answer = post(https, f"SELECT * FROM devices WHERE deviceId = '{device.device_id}'")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["x-ms-item-type"] == "Twin"
    assert "x-ms-continuation" not in answer.headers
    assert answer.text == f"[{https.get(device.twin_path).text}]"


@sdk
@operation("query: twins")
def test_modules_have_rows_of_their_own(registry, new_module):
    module = new_module()
    result = ask(registry, f"SELECT * FROM devices.modules WHERE deviceId = '{module.device_id}'")
    assert result.type == "Twin"
    assert [(row.device_id, row.module_id) for row in result.items] == [(module.device_id, module.module_id)]
    assert [
        row.module_id for row in ask(registry, f"SELECT * FROM devices WHERE deviceId = '{module.device_id}'").items
    ] == [None]


@sdk
@operation("query: twins")
def test_nothing_found_is_an_empty_list(registry):
    result = ask(registry, "SELECT * FROM devices WHERE deviceId = 'nobody'")
    assert (result.type, result.items, result.continuation_token) == ("Twin", [], None)


@sdk
@operation("query: twins")
def test_an_acknowledged_write_is_found_at_once(registry, device, connect):
    client = connect(device)
    desired, reported = (
        f"SELECT * FROM devices WHERE deviceId = '{device.device_id}' AND properties.{section}.n = "
        for section in ("desired", "reported")
    )
    for number in range(20):
        registry.update_twin(device.device_id, models.Twin(properties=models.TwinProperties(desired={"n": number})))
        assert len(ask(registry, f"{desired}{number}").items) == 1
        client.report({"n": number})
        assert len(ask(registry, f"{reported}{number}").items) == 1
        if number:
            assert ask(registry, f"{reported}{number - 1}").items == []


@sdk
@operation("query: twins")
def test_a_deleted_device_is_not_found_any_more(registry, new_device):
    device = new_device()
    text = f"SELECT * FROM devices WHERE deviceId = '{device.device_id}'"
    assert len(ask(registry, text).items) == 1
    registry.delete_device(device.device_id)
    assert ask(registry, text).items == []


@sdk
@operation("query: twins")
def test_the_connection_state_is_live(registry, device, connect):
    text = f"SELECT * FROM devices WHERE deviceId = '{device.device_id}' AND connectionState = 'Connected'"
    assert ask(registry, text).items == []
    client = connect(device, face=FACES[0])
    (twin,) = ask(registry, text).items
    assert twin.connection_state == "Connected"
    assert twin.last_activity_time.year > 2000
    client.disconnect()
    counted = f"SELECT COUNT() AS n FROM devices WHERE deviceId = '{device.device_id}' AND connectionState = 'Disconnected'"
    assert ask(registry, counted).items[0].additional_properties == {"n": 1}


@sdk
@operation("query: projections and aggregates")
def test_a_projection_is_raw(registry, new_fleet):
    fleet = new_fleet(2)
    result = ask(registry, f"SELECT deviceId, tags.n AS number, tags.nothing FROM devices WHERE {fleet.where}")
    assert result.type == "Raw"
    assert [(row.device_id, row.additional_properties) for row in result.items] == [
        (fleet.ids[0], {"number": 0}),
        (fleet.ids[1], {"number": 1}),
    ]


@sdk
@operation("query: projections and aggregates")
def test_whole_sections_are_projected(registry, device):
    device.patch_twin({"tags": {"site": {"name": "A"}}, "properties": {"desired": {"interval": 30}}})
    text = f"SELECT tags, properties.desired AS wanted FROM devices WHERE deviceId = '{device.device_id}'"
    (row,) = ask(registry, text).items
    assert row.tags == {"site": {"name": "A"}}
    assert row.additional_properties["wanted"]["interval"] == 30


@sdk
@operation("query: projections and aggregates")
def test_an_alias_that_is_a_field_of_a_twin_fails_in_the_sdk_alone(registry, https, device):
    """The SDK makes a Twin of each row, whatever it is."""
    text = f"SELECT deviceId AS version FROM devices WHERE deviceId = '{device.device_id}'"
    with pytest.raises(DeserializationError):
        ask(registry, text)
    assert post(https, text).json == [{"version": device.device_id}]


@sdk
@operation("query: projections and aggregates")
def test_aggregates_and_groups(registry, new_fleet):
    fleet = new_fleet(30, lambda n: {"site": f"s{n % 3}", "floor": n % 2})
    result = ask(
        registry,
        "SELECT tags.site AS site, COUNT() AS n, SUM(tags.n) AS s, MIN(tags.n) AS lo, MAX(tags.n) AS hi, "
        f"AVG(tags.n) AS mean FROM devices WHERE {fleet.where} GROUP BY tags.site",
    )
    assert result.type == "Raw"
    rows = sorted((row.additional_properties for row in result.items), key=lambda row: row["site"])
    assert rows == [
        {"site": f"s{k}", "n": 10, "s": sum(range(k, 30, 3)), "lo": k, "hi": 27 + k, "mean": sum(range(k, 30, 3)) / 10}
        for k in range(3)
    ]


@plain
@operation("query: projections and aggregates")
def test_numbers_keep_their_form(https, device):
    numbers = '{"whole":2,"one":1.0,"half":71.5,"big":4503599627370495}'
    assert https.patch(device.twin_path, f'{{"tags":{numbers}}}').status == 200
    answer = post(https, f"SELECT tags FROM devices WHERE deviceId = '{device.device_id}'")
    assert answer.text == f'[{{"tags":{numbers}}}]'


@plain
@operation("query: projections and aggregates")
@pytest.mark.parametrize(
    "select,wanted",
    [
        ("COUNT()", {"count": 3}),
        ("COUNT(*)", {"count": 3}),
        ("SUM(tags.n)", {"sum": 3}),
        ("AVG(tags.word)", {}),
        ("MIN(tags.word), MAX(tags.word)", {"min": "w0", "max": "w2"}),
    ],
)
def test_what_aggregates_are_called_and_skip(https, new_fleet, select, wanted):
    fleet = new_fleet(3, lambda n: {"word": f"w{n}"})
    assert post(https, f"SELECT {select} FROM devices WHERE {fleet.where}").json == [wanted]


@plain
@operation("query: projections and aggregates")
def test_group_by_alone_gives_distinct_values(https, new_fleet):
    fleet = new_fleet(4, lambda n: {"site": n % 2})
    rows = post(https, f"SELECT tags.site FROM devices WHERE {fleet.where} GROUP BY tags.site").json
    assert sorted(row["site"] for row in rows) == [0, 1]


# ---------------------------------------------------------------- pages


@sdk
@operation("query: paging")
def test_pages_cover_everything_once(registry, new_fleet):
    fleet = new_fleet(23)
    rows, sizes = every_row(registry, fleet.everything, page=7)
    assert [row.device_id for row in rows] == fleet.ids
    assert sizes == [7, 7, 7, 2]


@sdk
@operation("query: paging")
def test_an_exact_multiple_has_no_empty_last_page(registry, new_fleet):
    fleet = new_fleet(20)
    assert every_row(registry, fleet.everything, page=10)[1] == [10, 10]
    assert every_row(registry, fleet.everything, page=20)[1] == [20]


@sdk
@operation("query: paging")
def test_a_page_has_a_hundred_rows_unless_asked_otherwise(registry, new_fleet):
    fleet = new_fleet(101)
    assert every_row(registry, fleet.everything)[1] == [100, 1]
    assert every_row(registry, fleet.everything, page=1000)[1] == [101]


@plain
@operation("query: paging")
def test_a_page_has_a_thousand_rows_at_most(https, new_fleet):
    fleet = new_fleet(1001)
    answer = post(https, f"SELECT deviceId FROM devices WHERE {fleet.where}", x_ms_max_item_count="5000")
    assert (answer.status, len(answer.json)) == (200, 1000)
    assert answer.headers["x-ms-continuation"]


@plain
@operation("query: paging")
@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5", ""])
def test_an_impossible_page_size_is_refused(https, size):
    answer = post(https, "SELECT * FROM devices", x_ms_max_item_count=size)
    assert answer.status in ((200, 400) if size == "" else (400,))


@sdk
@operation("query: paging")
def test_projections_groups_and_modules_are_paged_too(registry, new_fleet, new_device):
    fleet = new_fleet(9)
    rows, sizes = every_row(registry, f"SELECT deviceId FROM devices WHERE {fleet.where}", page=4)
    assert ([row.device_id for row in rows], sizes) == (fleet.ids, [4, 4, 1])
    rows, sizes = every_row(
        registry, f"SELECT tags.n, COUNT() AS c FROM devices WHERE {fleet.where} GROUP BY tags.n", page=4
    )
    assert sorted(row.additional_properties["n"] for row in rows) == list(range(9))
    assert sizes == [4, 4, 1]
    device = new_device()
    for name in "abcde":
        registry.create_module_with_sas(device.device_id, name, "", "", "")
    rows, sizes = every_row(registry, f"SELECT * FROM devices.modules WHERE deviceId = '{device.device_id}'", page=2)
    assert ([row.module_id for row in rows], sizes) == (list("abcde"), [2, 2, 1])


@sdk
@operation("query: paging")
def test_top_limits_all_pages_together(registry, new_fleet):
    fleet = new_fleet(10)
    rows, sizes = every_row(registry, f"SELECT TOP 5 * FROM devices WHERE {fleet.where}", page=2)
    assert ([row.device_id for row in rows], sizes) == (fleet.ids[:5], [2, 2, 1])


@sdk
@operation("query: paging")
def test_a_page_can_be_read_again(registry, new_fleet):
    fleet = new_fleet(6)
    token = ask(registry, fleet.everything, page=2).continuation_token
    first, again = (ask(registry, fleet.everything, token, 2) for _ in range(2))
    assert [row.device_id for row in first.items] == [row.device_id for row in again.items] == fleet.ids[2:4]
    assert first.continuation_token == again.continuation_token


@sdk
@operation("query: paging")
def test_the_page_size_may_change_on_the_way(registry, new_fleet):
    fleet = new_fleet(10)
    token = ask(registry, fleet.everything, page=3).continuation_token
    assert [row.device_id for row in ask(registry, fleet.everything, token, 100).items] == fleet.ids[3:]


@sdk
@operation("query: paging")
def test_a_token_of_another_query_is_refused(registry, new_fleet):
    fleet = new_fleet(6)
    token = ask(registry, fleet.everything, page=2).continuation_token
    assert status_of(ask, registry, f"{fleet.everything} AND tags.n >= 0", token, 2)[0] == 400
    assert status_of(ask, registry, "SELECT * FROM devices", token, 2)[0] == 400


@plain
@operation("query: paging")
def test_a_forged_token_is_refused(https, registry, new_fleet):
    fleet = new_fleet(6)
    token = ask(registry, fleet.everything, page=2).continuation_token
    middle = len(token) // 2
    changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for forged in (changed, token[:-4], token + "AAAA", "x", "e30=", "%00", "A" * 5000):
        answer = post(https, fleet.everything, x_ms_continuation=forged)
        assert (answer.status, answer.error_code) == (400, "ArgumentInvalid"), forged


@sdk
@operation("query: paging")
def test_a_device_deleted_between_two_pages_does_not_disturb_the_others(registry, new_fleet):
    fleet = new_fleet(6)
    result = ask(registry, fleet.everything, page=3)
    registry.delete_device(fleet.ids[2])  # the last row of that page, which the token names
    registry.delete_device(fleet.ids[4])
    rest = ask(registry, fleet.everything, result.continuation_token, 3)
    assert [row.device_id for row in rest.items] == [fleet.ids[3], fleet.ids[5]]


# ---------------------------------------------------------------- errors

MALFORMED = {
    "nothing": "",
    "no collection": "SELECT *",
    "no condition": "SELECT * FROM devices WHERE",
    "unknown collection": "SELECT * FROM widgets",
    "unknown word": "SELEKT * FROM devices",
    "unbalanced": "SELECT * FROM devices WHERE (tags.a = 1",
    "open string": "SELECT * FROM devices WHERE tags.a = 'x",
    "open bracket": "SELECT * FROM devices WHERE tags.[[a = 1",
    "two stars": "SELECT *, * FROM devices",
    "star and column": "SELECT *, deviceId FROM devices",
    "unknown function": "SELECT * FROM devices WHERE NOSUCH(deviceId)",
    "wrong argument count": "SELECT * FROM devices WHERE STARTSWITH(deviceId)",
    "reserved segment": "SELECT * FROM devices WHERE tags.group = 1",
    "aggregate beside a column": "SELECT deviceId, COUNT() AS n FROM devices",
    "sub-query": "SELECT * FROM devices WHERE deviceId IN (SELECT deviceId FROM devices)",
    "join": "SELECT * FROM devices JOIN devices.modules",
    "semicolon": "SELECT * FROM devices;",
    "two queries": "SELECT * FROM devices SELECT * FROM devices",
    "distinct": "SELECT DISTINCT tags.a FROM devices",
    "between": "SELECT * FROM devices WHERE tags.a BETWEEN 1 AND 2",
    "top zero": "SELECT TOP 0 * FROM devices",
    "chained": "SELECT * FROM devices WHERE 1 < tags.a < 3",
    "control character": "SELECT * FROM devices WHERE tags.a = \u0001",
    "too deep": "SELECT * FROM devices WHERE " + "(" * 200 + "true" + ")" * 200,
}


@sdk
@operation("query: errors")
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_query_is_a_bad_request(registry, name):
    assert status_of(ask, registry, MALFORMED[name]) == (400, "Bad Request")


@plain
@operation("query: errors")
@pytest.mark.parametrize("name", [name for name in MALFORMED if name != "nothing"])
def test_a_malformed_query_is_told_where(https, name):
    answer = post(https, MALFORMED[name])
    assert answer.status == 400
    assert answer.error_code in ("IotHubFormatError", "ArgumentInvalid")
    assert answer.message.startswith(f"ErrorCode:{answer.error_code};")
    assert "line 1:" in answer.message.lower() or "line 1, column" in answer.message.lower(), answer.message


@plain
@operation("query: errors")
@pytest.mark.parametrize(
    "text,place",
    [
        ("SELECT * FROM devices WHERE tags.a = = 1", (1, 38)),
        ("SELECT *\nFROM devices\nWHERE tags.a LIKES 'x'", (3, 14)),
        ("SELECT * FRM devices", (1, 10)),
    ],
)
def test_the_place_of_an_error_counts_from_one(https, text, place):
    message = post(https, text).message.lower()
    assert f"line {place[0]}:{place[1]}" in message or f"line {place[0]}, column {place[1]}" in message, message


@plain
@operation("query: errors")
@pytest.mark.parametrize(
    "text,word",
    [
        ("SELECT * FROM device", "devices"),
        ("SELECT * FROM devices WHER tags.a = 1", "WHERE"),
        ("SELECT * FROM devices WHERE STARTWITH(deviceId, 'a')", "STARTSWITH"),
    ],
)
def test_the_nearest_valid_word_is_named(https, text, word):
    assert word.lower() in post(https, text).message.lower().split(";", 1)[1]


@plain
@operation("query: errors")
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"query":null}', b'{"query":5}', b'{"Query2":"SELECT * FROM devices"}'], ids=repr
)
def test_a_body_without_a_query_is_refused(https, body):
    answer = https.post("/devices/query", body)
    assert answer.status == 400
    assert answer.error_code
    if body == b"{}":
        assert answer.message.startswith("ErrorCode:ArgumentNull;")


@plain
@operation("query: errors")
def test_8192_characters_are_the_limit(https, device):
    start = f"SELECT deviceId FROM devices WHERE deviceId = '{device.device_id}' AND tags.a != '"
    for character in ("x", "ü"):
        fill = 8192 - len(start) - 1
        assert post(https, f"{start}{character * fill}'").json == []
        assert post(https, f"{start}{character * (fill + 1)}'").status == 400


@plain
@operation("query: errors")
def test_a_body_of_ten_megabytes_is_refused(https):
    assert post(https, "SELECT * FROM devices WHERE tags.a = '" + "x" * 10_000_000).status in (400, 413)


@plain
@operation("query: errors")
@pytest.mark.parametrize(
    "condition",
    [
        "tags.n = '0'",
        "tags.n > 'a'",
        "tags.fleet > 5",
        "tags = 1",
        "tags.n / 0 = 1",
        "STARTSWITH(tags.n, 'a')",
        "tags.fleet.x.y = 1",
        "-tags.fleet = 1",
        "tags.n",
    ],
)
def test_badly_typed_data_is_no_error_and_no_match(https, new_fleet, condition):
    fleet = new_fleet(2)
    answer = post(https, f"SELECT * FROM devices WHERE {fleet.where} AND {condition}")
    assert (answer.status, answer.json) == (200, [])


# ---------------------------------------------------------------- what is Ostler's own

EXTENSIONS = {
    "order by": "SELECT * FROM devices WHERE {where} ORDER BY tags.n DESC",
    "limit": "SELECT * FROM devices WHERE {where} LIMIT 2",
    "offset": "SELECT * FROM devices WHERE {where} LIMIT 2 OFFSET 1",
    "like": "SELECT * FROM devices WHERE {where} AND tags.site LIKE 's%'",
    "contains": "SELECT * FROM devices WHERE {where} AND CONTAINS(tags.site, '1')",
    "lower": "SELECT * FROM devices WHERE {where} AND LOWER(tags.Site) = 's1'",
    "upper": "SELECT * FROM devices WHERE {where} AND UPPER(tags.site) = 'S1'",
    "explain": "EXPLAIN SELECT * FROM devices WHERE {where}",
    "jobs, projected": "SELECT deviceId FROM devices.jobs",
    "jobs, grouped": "SELECT status, COUNT() AS n FROM devices.jobs GROUP BY status",
}


@sdk
@operation("query: strict and extended")
@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_strict_hub_refuses_what_azure_does_not_have(strict_hub, name):
    text = EXTENSIONS[name].format(where="tags.a = 1")
    assert status_of(ask, strict_hub.registry, text) == (400, "Bad Request")
    message = post(strict_hub.https, text).message
    assert message.startswith("ErrorCode:")


@sdk
@operation("query: strict and extended")
def test_a_strict_hub_refuses_them_in_conditions_too(strict_hub):
    jobs, kept = Jobs(strict_hub), Kept(strict_hub)
    job = jobs.ended(jobs.update("tags.site LIKE 's%'", tags={"a": 1}))
    assert (job.status, "LIKE" in job.failure_reason) == ("failed", True)
    assert status_of(kept.create, "tags.site LIKE 's%'")[0] == 400
    assert strict_hub.https.get("/ostler/v1/jobs").status == 404


@sdk
@operation("query: strict and extended")
@pytest.mark.local_only("Azure does not have these")
@pytest.mark.parametrize(
    "name,numbers",
    [
        ("order by", [3, 2, 1, 0]),
        ("limit", [0, 1]),
        ("offset", [1, 2]),
        ("like", [0, 1, 2, 3]),
        ("contains", [1, 3]),
        ("upper", [1, 3]),
    ],
)
def test_extensions_work_on_an_extended_hub(registry, new_fleet, name, numbers):
    fleet = new_fleet(4, lambda n: {"site": f"s{n % 2}"})
    rows, _ = every_row(registry, EXTENSIONS[name].format(where=fleet.where), page=3)
    assert [row.tags["n"] for row in rows] == numbers


@sdk
@operation("query: strict and extended")
@pytest.mark.local_only("Azure does not have these")
def test_an_ordered_query_is_paged_in_its_order(registry, new_fleet):
    fleet = new_fleet(25, lambda n: {"rank": (n * 7) % 5})
    rows, sizes = every_row(registry, f"{fleet.everything} ORDER BY tags.rank, tags.n DESC", page=4)
    wanted = sorted(range(25), key=lambda n: ((n * 7) % 5, -n))
    assert ([row.tags["n"] for row in rows], sizes) == (wanted, [4] * 6 + [1])


@plain
@operation("query: strict and extended")
@pytest.mark.local_only("Azure does not have these")
def test_explain_answers_rows_that_tell_the_plan(https, new_fleet):
    fleet = new_fleet(2)
    answer = post(https, f"EXPLAIN {fleet.everything}")
    assert (answer.status, answer.headers["x-ms-item-type"]) == (200, "Raw")
    assert json.dumps(answer.json) != "[]"


# ---------------------------------------------------------------- who may ask


@plain
@operation("service sign-in and rights")
def test_a_device_may_not_query(https, device):
    token = https.token(resource=f"{device.hub.hostname}/devices/{device.device_id}", key=device.key, policy=None)
    assert https.post("/devices/query", {"query": "SELECT * FROM devices"}, authorization=token).status == 401
