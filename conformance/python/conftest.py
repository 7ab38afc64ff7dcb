"""Fixtures of the Python suite, and the record of what ran.

Each test says what it exercises with two marks: `sdk` (whose client is the judge) and `operation` (a row of
docs/compatibility.md). The outcome of every test goes into the file named by OSTLER_RESULTS.
"""

import json
import os
import platform
import uuid
from pathlib import Path

import pytest

from devices import FACES
from hub import AzureHub, LocalHub, Wire, new_key
from identities import Identity
from judges import DEVICE_SDK

AGAINST_AZURE = os.environ.get("OSTLER_AGAINST_AZURE")


# ---------------------------------------------------------------- the record


def pytest_configure(config):
    config.addinivalue_line("markers", "sdk(name): the client that judges the hub in this test")
    config.addinivalue_line("markers", "operation(name): the row of docs/compatibility.md that this test belongs to")
    config.addinivalue_line("markers", "local_only(reason): needs a hub process of its own; skipped against Azure")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("operation") is None:
            raise pytest.UsageError(f"{item.nodeid} does not name its operation")
        if item.get_closest_marker("sdk") is None and "face" not in item.fixturenames:
            raise pytest.UsageError(f"{item.nodeid} does not name its judge")
        if AGAINST_AZURE and (mark := item.get_closest_marker("local_only")):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    sdk = item.get_closest_marker("sdk")
    name = sdk.args[0] if sdk else None
    if "face" in item.fixturenames:
        name = f"{DEVICE_SDK} {item.callspec.params['face'].transport}"
    if report.failed:
        item.failed_report = report
    report.covers = {"sdk": name, "operation": item.get_closest_marker("operation").args[0]}


RECORD = []


def pytest_runtest_logreport(report):
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        RECORD.append(
            {
                "suite": "python",
                "sdk": report.covers["sdk"],
                "operation": report.covers["operation"],
                "test": report.nodeid,
                "outcome": report.outcome,
                "seconds": round(report.duration, 2),
                "reason": str(report.longrepr[2]) if report.outcome == "skipped" else None,
            }
        )


def pytest_sessionfinish(session):
    target = os.environ.get("OSTLER_RESULTS")
    if target and not hasattr(session.config, "workerinput"):
        summary = {"python": platform.python_version(), "tests": sorted(RECORD, key=lambda entry: entry["test"])}
        Path(target).write_text(json.dumps(summary, indent=1) + "\n")


# ---------------------------------------------------------------- hubs


@pytest.fixture(scope="session")
def hub():
    """The hub most tests share: they keep apart by device id."""
    if AGAINST_AZURE:
        yield AzureHub(AGAINST_AZURE)
        return
    shared = LocalHub()
    yield shared
    shared.stop()


@pytest.fixture
def own_hub(tmp_path):
    """A hub on a data folder of its own, to be killed and restarted."""
    hub = LocalHub(data=tmp_path / "data")
    yield hub
    hub.stop()


@pytest.fixture
def limited_hub():
    """A hub that bears five failed sign-ins of an address and no more."""
    hub = LocalHub(settings={"OSTLER_SIGN_IN_FAILURE_BURST": "5", "OSTLER_SIGN_IN_FAILURE_RATE": "0"})
    yield hub
    hub.stop()


@pytest.fixture(autouse=True)
def hub_log_on_failure(request):
    yield
    for name in ("hub", "own_hub"):
        fixture = request.node.funcargs.get(name)
        if hasattr(request.node, "failed_report") and isinstance(fixture, LocalHub):
            print(f"--- end of the log of {name}\n{fixture.log_tail()}")


@pytest.fixture
def registry(hub):
    return hub.registry


@pytest.fixture
def https(hub):
    return hub.https


# ---------------------------------------------------------------- identities


@pytest.fixture
def new_id(request):
    """Makes ids that no other test uses; identities so named are deleted afterwards where they would stay."""
    made = []

    def make(stem="dev"):
        made.append(f"{stem}-{uuid.uuid4().hex[:10]}")
        return made[-1]

    yield make
    if AGAINST_AZURE:
        registry = request.getfixturevalue("hub").registry
        for device_id in made:
            try:
                registry.delete_device(device_id)
            except Exception:  # the test deleted it itself, or never created it
                pass


@pytest.fixture
def new_device(hub, new_id):
    def make(stem="dev", on=None, status="enabled"):
        on = on or hub
        key = new_key()
        device_id = new_id(stem)
        on.registry.create_device_with_sas(device_id, key, new_key(), status)
        return Identity(on, device_id, key)

    return make


@pytest.fixture
def device(new_device):
    return new_device()


@pytest.fixture
def new_module(hub, new_device):
    def make(of=None, module_id="valve", on=None):
        of = of or new_device(on=on)
        key = new_key()
        of.hub.registry.create_module_with_sas(of.device_id, module_id, "tests", key, new_key())
        return Identity(of.hub, of.device_id, key, module_id)

    return make


# ---------------------------------------------------------------- device clients


@pytest.fixture(params=FACES, ids=repr)
def face(request):
    return request.param


@pytest.fixture
def wire(hub):
    """A relay before the shared hub. Name it before `connect`, so that clients end before it does."""
    with Wire(hub) as relay:
        yield relay


@pytest.fixture
def connect(request):
    """Connects an identity with azure-iot-device; every client is shut down at the end of the test."""
    clients = []
    chosen = request.getfixturevalue("face") if "face" in request.fixturenames else FACES[0]

    def make(identity, start=True, how="connection_string", face=None, **options):
        face = face or chosen
        options.setdefault("connection_retry_interval", 1)
        client = face.driver.create(identity, how, websockets=face.websockets, **options)
        clients.append(client)
        if start:
            client.connect()
        return client

    yield make
    for client in clients:
        client.shutdown()
