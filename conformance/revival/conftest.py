"""Fixtures of the suite that runs the revived packages `iothub_client` and `iothub_service_client`.

They are installed from the wheel, into whatever Python runs this. The hubs are those of the other suites; because the
packages ask the system for addresses, and not a resolver that a test could replace, a hub is named by its address.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from hub import LocalHub, Wire, free_loopback_address, new_key, resolver  # noqa: E402

SAMPLES = HERE.parents[1] / "samples" / "python-v1"

# Whatever a shell starts in the background ignores Ctrl-C, and so would the programs that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Device:
    """A registered device (or module), how it signs in, and how the service reaches it."""

    def __init__(self, hub, device_id, key, module_id=None):
        self.hub = hub
        self.device_id = device_id
        self.key = key
        self.module_id = module_id

    @property
    def connection_string(self):
        return self.hub.device_connection_string(self.device_id, self.key, self.module_id)

    @property
    def path(self):
        return self.device_id + (f"/modules/{self.module_id}" if self.module_id else "")

    def twin(self):
        return self.hub.https.get(f"/twins/{self.path}").json

    def patch_desired(self, desired):
        answer = self.hub.https.patch(f"/twins/{self.path}", {"properties": {"desired": desired}})
        assert answer.status == 200, answer

    def invoke(self, name, payload=None, response_timeout=30, connect_timeout=10):
        """The answer of the hub: its status, and JSON with `status` and `payload`. `payload` may be JSON as text."""
        call = f'"methodName":"{name}","responseTimeoutInSeconds":{response_timeout}'
        call += f',"connectTimeoutInSeconds":{connect_timeout}'
        call += f',"payload":{payload}' if payload is not None else ""
        return self.hub.https.post(f"/twins/{self.path}/methods", "{" + call + "}", timeout=response_timeout + 30)

    def connected(self):
        return self.hub.https.get(f"/devices/{self.path}").json["connectionState"] == "Connected"

    def change(self, **members):
        """Changes the registration, as `status="disabled"`."""
        identity = self.hub.https.get(f"/devices/{self.device_id}").json
        identity.update(members)
        answer = self.hub.https.put(f"/devices/{self.device_id}", identity, headers={"If-Match": "*"})
        assert answer.status == 200, answer


def register(hub, device_id=None, module_id=None, status="enabled"):
    """Registers a device, and a module of it if one is named."""
    device_id, key = device_id or f"dev-{uuid.uuid4().hex[:10]}", new_key()
    sas = {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": new_key()}}
    body = {"deviceId": device_id, "status": status, "authentication": sas}
    answer = hub.https.put(f"/devices/{device_id}", body)
    assert answer.status == 200, answer
    if module_id:
        body = {"deviceId": device_id, "moduleId": module_id, "authentication": sas}
        answer = hub.https.put(f"/devices/{device_id}/modules/{module_id}", body)
        assert answer.status in (200, 201), answer
    return Device(hub, device_id, key, module_id)


class Bundle:
    """One file with the authority of every hub, named by OSTLER_CA_FILE."""

    def __init__(self):
        handle, self.path = tempfile.mkstemp(prefix="ostler-revival-", suffix=".pem")
        os.close(handle)
        os.environ["OSTLER_CA_FILE"] = self.path

    def add(self, hub):
        with open(self.path, "a", encoding="ascii") as file:
            file.write(hub.ca_pem + "\n")
        return hub


@pytest.fixture(scope="session")
def bundle():
    made = Bundle()
    yield made
    os.unlink(made.path)


@contextlib.contextmanager
def named_hub(bundle, **options):
    """A hub whose name is an address: that of a relay, `hub.wire`, by which the packages come. The suite's own
    requests go to the hub itself."""
    hub = LocalHub(name=free_loopback_address(), **options)
    bundle.add(hub)
    with Wire(hub, address=hub.hostname) as hub.wire:
        resolver.names[hub.hostname] = hub.address
        yield hub
    hub.stop()


@pytest.fixture(scope="session")
def hub(bundle):
    """The hub most tests share: they keep apart by device id."""
    with named_hub(bundle) as shared:
        yield shared


@pytest.fixture
def own_hub(bundle, tmp_path):
    """A hub of a test's own, on a data folder: to be killed, restarted, and cut off."""
    with named_hub(bundle, data=tmp_path / "data") as own:
        yield own


@pytest.fixture
def device(hub):
    return register(hub)


@pytest.fixture
def module(hub):
    return register(hub, module_id="valve")


class Program:
    """A Python program in a process of its own: the only way to see exits."""

    def __init__(self, *command, environment=None):
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.seen = []

    def wait_for(self, text):
        """Reads lines until one holds `text`; returns that line."""
        for line in self.process.stdout:
            self.seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never said; it said {''.join(self.seen)}\n{self.process.stderr.read()}")

    def finish(self, timeout=30):
        """Waits for the end: (exit code, all of stdout, stderr)."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, "".join(self.seen) + out, err

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def program():
    """Starts programs: a path with arguments, or `code=` for one in a string."""
    running = []

    def start(*command, code=None, **environment):
        running.append(Program(*(["-c", code] if code else []), *map(str, command), environment=environment))
        return running[-1]

    yield start
    for one in running:
        one.end()
