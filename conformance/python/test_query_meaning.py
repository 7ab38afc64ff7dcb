"""What conditions and select lists mean where the published documents are silent: each choice is a row of choices.toml."""

import pytest

from judges import HTTPS, HUB_SDK
from test_queries import ask, every_row, new_fleet, post
from test_registry import status_of

__all__ = ["new_fleet"]

operation = pytest.mark.operation
plain = pytest.mark.sdk(HTTPS)
sdk = pytest.mark.sdk(HUB_SDK)


@pytest.fixture
def matches(registry, new_fleet):
    """The numbers of those twins, of tags `{"x": …}` given one after the other, that meet a condition."""

    def check(condition, *tags):
        fleet = new_fleet(len(tags), lambda n: tags[n])
        rows, _ = every_row(registry, f"{fleet.everything} AND ({condition})")
        return [row.tags["n"] for row in rows]

    return check


@sdk
@operation("query: twins")
@pytest.mark.parametrize(
    "condition,wanted",
    [
        ("tags.x != 1", [1]),
        ("NOT (tags.x = 1)", [1]),
        ("tags.x = '1'", [2]),
        ("tags.x != '1'", []),
        ("tags.x < '2'", [2]),
        ("tags.x > 0", [0, 1]),
        ("tags.x NIN [1]", [1]),
        ("tags.x IN []", []),
        ("tags.x NIN []", [0, 1, 2, 3]),
        ("NOT tags.x IN [1]", [1]),
        ("tags.x = null OR tags.x != null", []),
        ("tags.x = undefined OR NOT (tags.x = undefined)", []),
        ("tags.x = 1 OR IS_DEFINED(tags.x.y)", [0, 3]),
        ("IS_DEFINED(tags.x)", [0, 1, 2, 3]),
        ("IS_OBJECT(tags.x) OR IS_NUMBER(tags.x)", [0, 1, 3]),
        ("NOT IS_STRING(tags.x)", [0, 1, 3, 4]),
        ("IS_NULL(statusReason) AND statusReason = null", [0, 1, 2, 3, 4]),
        ("statusReason <= null AND NOT (statusReason < null)", [0, 1, 2, 3, 4]),
    ],
)
def test_missing_values_and_other_types_are_neither_equal_nor_unequal(matches, condition, wanted):
    assert matches(condition, {"x": 1}, {"x": 2}, {"x": "1"}, {"x": {"y": 1}}, {}) == wanted


@sdk
@operation("query: twins")
@pytest.mark.parametrize(
    "condition,wanted",
    [
        ("tags.x + 1 = 3", [1]),
        ("tags.x + tags.x = 4 AND tags.x * 3 % 4 = 2", [1]),
        ("tags.x / 0 = 0 OR tags.x % 0 = 0 OR NOT (tags.x / 0 = 0)", []),
        ("tags.word + 'b' = 'ab'", []),
        ("-tags.x = -1", [0]),
        ("1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9", [0, 1]),
        ("tags.x = 1e0 OR tags.x = 20e-1", [0, 1]),
        ("tags.x = 0x2", [1]),
        ("tags.x = 1 OR tags.x = 2 AND tags.word = 'nothing'", [0]),
        ("NOT tags.x = 1", [1]),
        ("tags.my-tag = 4", []),
        ("tags.[[my-tag]] = 5", [0, 1]),
    ],
)
def test_arithmetic_and_precedence(matches, condition, wanted):
    first, second = {"x": 1, "word": "a", "my-tag": 5}, {"x": 2, "word": "a", "my-tag": 5}
    assert matches(condition, first, second) == wanted


@sdk
@operation("query: twins")
@pytest.mark.parametrize(
    "condition,wanted",
    [
        ("tags.x = 'it''s'", [0]),
        ('tags.x = "it\'s"', [0]),
        ("tags.x = 'it\\'s'", [0]),
        ("tags.x = 'a\\b'", [1]),
        ("tags.x = 'a\\qb'", [2]),
        ("tags.x = '\\u00fc'", [3]),
        ("tags.größe = 3", [3]),
        ("tags.größe = 3 AND TRUE AND Null = NULL AND NOT False", [3]),
        ("tags.x = 'Ü'", []),
    ],
)
def test_strings_and_names(matches, condition, wanted):
    assert matches(condition, {"x": "it's"}, {"x": "a\\b"}, {"x": "a\\qb"}, {"x": "ü", "größe": 3}) == wanted


@sdk
@operation("query: twins")
def test_names_are_compared_exactly_first_and_then_without_case_if_one_remains(matches):
    tags = {"Site": "A"}, {"Site": "A", "site": "B"}, {"SITE": "A", "sitE": "A"}
    assert matches("tags.site = 'A'", *tags) == [0]
    assert matches("Tags.Site = 'A'", *tags) == [0, 1]
    assert matches("DEVICEID != '' AND TAGS.site = 'B'", *tags) == [1]


@sdk
@operation("query: twins")
def test_integers_are_exact(matches):
    big = 4503599627370495
    assert matches(f"tags.x = {big}", {"x": big}, {"x": big - 1}) == [0]
    assert matches(f"tags.x > {big - 1}", {"x": big}, {"x": big - 1}) == [0]


@sdk
@operation("query: twins")
def test_times_compare_as_text(matches):
    moments = {"x": "2024-05-01T08:00:00Z"}, {"x": "2024-05-01T08:00:00.5Z"}, {"x": "2024-04-30T23:59:59Z"}
    assert matches("tags.x >= '2024-05-01'", *moments) == [0, 1]
    assert matches("tags.x > '2024-05-01T08:00:00.5Z'", *moments) == [0]


@sdk
@operation("query: twins")
@pytest.mark.parametrize(
    "condition,wanted",
    [
        ("STARTSWITH(tags.x, 'ab') AND STARTS_WITH(tags.x, 'ab')", [0]),
        ("ENDSWITH(tags.x, 'C') OR ENDS_WITH(tags.x, 'c')", [0]),
        ("STARTSWITH(tags.x, 1) OR NOT STARTSWITH(tags.x, 1)", []),
        ("ARRAY_CONTAINS(tags.x, 'b')", [1]),
        ("ARRAY_CONTAINS(tags.x, 'B') OR ARRAY_CONTAINS(tags.x, 1)", []),
        ("IS_ARRAY(tags.x)", [1]),
    ],
)
def test_functions_in_both_spellings(matches, condition, wanted):
    assert matches(condition, {"x": "abc"}, {"x": ["a", "b"]}, {}) == wanted


@sdk
@operation("query: twins")
def test_other_names_of_columns(registry, device):
    for condition in (
        f"id = '{device.device_id}'",
        f"devices.deviceId = '{device.device_id}'",
        f"deviceId = '{device.device_id}' AND statusUpdatedTime = statusUpdateTime",
    ):
        assert len(ask(registry, f"SELECT * FROM devices WHERE {condition}").items) == 1


@sdk
@operation("query: errors")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM devices -- a comment",
        "SELECT * FROM devices /* a comment */",
        "SELECT * FROM devices;",
        "SELECT * FROM devices WHERE tags.list[0] = 1",
        "SELECT * FROM devices WHERE " + "(" * 65 + "true" + ")" * 65,
        "SELECT tags.site, COUNT() AS n FROM devices",
        "SELECT tags.floor, COUNT() AS n FROM devices GROUP BY tags.site",
        "SELECT tags.site AS s, COUNT() AS n FROM devices GROUP BY s",
    ],
)
def test_what_is_not_accepted(registry, text):
    assert status_of(ask, registry, text)[0] == 400


@plain
@operation("query: projections and aggregates")
def test_a_select_list_in_its_finer_points(https, device):
    device.patch_twin({"tags": {"site": {"name": "A"}, "group": 2}})

    def row(select):
        answer = post(https, f"SELECT {select} FROM devices WHERE deviceId = '{device.device_id}'")
        assert answer.status == 200, answer
        return answer.json[0]

    assert row("tags.nothing") == {}
    assert row("tags.site") == {"site": {"name": "A"}}
    assert row("tags.site place, statusReason AS why") == {"place": {"name": "A"}, "why": None}
    assert row("tags.[[group]], DEVICEID") == {"group": 2, "deviceId": device.device_id}
    assert row("tags.site.name, tags.group2, status AS name") == {"name": "enabled"}


@plain
@operation("query: projections and aggregates")
def test_rows_without_the_value_are_a_group_without_the_key(https, new_fleet):
    fleet = new_fleet(3, lambda n: {"site": "A"} if n else {})
    rows = post(https, f"SELECT tags.site, COUNT() AS n FROM devices WHERE {fleet.where} GROUP BY tags.site").json
    assert sorted(rows, key=len) == [{"n": 1}, {"site": "A", "n": 2}]


@plain
@operation("query: projections and aggregates")
def test_aggregates_over_nothing_give_one_row(https):
    nobody = "FROM devices WHERE deviceId = 'nobody'"
    assert post(https, f"SELECT COUNT() AS n, SUM(tags.x) AS s, MAX(tags.x) AS m {nobody}").json == [{"n": 0}]
    assert post(https, f"SELECT tags.x, COUNT() AS n {nobody} GROUP BY tags.x").json == []


@plain
@operation("query: projections and aggregates")
def test_modules_are_grouped_too(https, new_module):
    module = new_module()
    text = f"SELECT moduleId, COUNT() AS n FROM devices.modules WHERE deviceId = '{module.device_id}' GROUP BY moduleId"
    assert post(https, text).json == [{"moduleId": "valve", "n": 1}]
