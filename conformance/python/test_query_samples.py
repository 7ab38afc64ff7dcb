"""The sample set of the query language, case by case, through azure-iot-hub and beside it in plain HTTPS.

The cases are the ones that every engine of the hub is held to. They run on a hub in strict mode, as a sample set of
Azure's language refuses what is Ostler's own.
"""

import json
import re

import pytest

from hub import REPOSITORY, LocalHub
from judges import HUB_SDK
from sample import Sample
from test_queries import ask
from test_registry import status_of

operation = pytest.mark.operation
pytestmark = [pytest.mark.sdk(HUB_SDK), pytest.mark.local_only("needs a hub with the devices of the sample and no others")]

SOURCE = REPOSITORY / "crates" / "ostler-core" / "tests" / "data" / "query.jsonl"


def cases():
    """The lines under `# tests`."""
    section, found = None, []
    for line in SOURCE.read_text().splitlines():
        if line.startswith("#"):
            section = line[2:]
        elif section == "tests":
            found.append(json.loads(line))
    return found


CASES = cases()

# Made by the hub for every edge device; the sample leaves it out.
ALSO_THERE = {"SELECT * FROM devices.modules WHERE devices.deviceId = 'edge-1'": ["edge-1/$edgeHub"]}


@pytest.fixture(scope="module")
def sample():
    hub = LocalHub(settings={"OSTLER_COMPAT": "strict"})
    sample = Sample(hub)
    yield sample
    sample.close()
    hub.discard()


def name_of(row):
    """What the sample calls a row: the device, `device/module`, or `job/device`."""
    if "jobId" in row:
        return f"{row['jobId']}/{row['deviceId']}"
    return f"{row['deviceId']}/{row['moduleId']}" if row.get("moduleId") else row["deviceId"]


def canonical(row):
    """A row as text in which a time without a fraction and one with zeros are the same."""
    return re.sub(r"\.0+Z\"", 'Z"', json.dumps(row, sort_keys=True))


@operation("query: the sample set")
@pytest.mark.parametrize("case", CASES, ids=[case["q"].replace("SELECT ", "")[:90] for case in CASES])
def test_a_case_of_the_sample(sample, case):
    text = sample.literal(case["q"])
    if "status" in case:
        assert status_of(ask, sample.hub.registry, text)[0] == case["status"]
        return
    result = ask(sample.hub.registry, text)
    rows = sample.https.post("/devices/query", {"query": text}).json
    assert result.type == case["type"]
    assert len(result.items) == len(rows)
    if "ids" in case:
        wanted = case["ids"] + ALSO_THERE.get(case["q"], [])
        assert sorted(name_of(row) for row in rows) == sorted(wanted)
        if case["type"] == "Twin":
            assert [(item.device_id, item.module_id) for item in result.items] == [
                (row["deviceId"], row.get("moduleId")) for row in rows
            ]
    else:
        assert sorted(map(canonical, rows)) == sorted(map(canonical, case["rows"]))
