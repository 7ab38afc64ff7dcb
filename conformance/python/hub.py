"""The hubs under test: a process of our own, or the real service.

A test sees a `Hub`: a host name, connection strings and the certificate to trust. Nothing in a test may depend on
which of the two it got, except through `Hub.is_local`.

Device SDKs dial 8883 and 443 and nothing else, so every hub process gets a loopback address of its own, and its host
name is resolved to that address inside this process (`resolver`). Several hubs therefore run side by side, and
neither the SDKs nor the machine's hosts file are touched.
"""

import atexit
import base64
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from https import Https
from tokens import parse_connection_string

REPOSITORY = Path(__file__).resolve().parents[2]
START_DEADLINE = 30.0
STOP_DEADLINE = 15.0


def eventually(check, timeout=15.0, what="the condition"):
    """Polls `check` until it returns something true, and returns that; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    last = None
    while True:
        try:
            last = check()
        except AssertionError as error:
            last = None
            if time.monotonic() > deadline:
                raise error
        if last:
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s (last: {last!r})")
        pause.wait(0.02)


class Resolver:
    """Answers our own host names before the system resolver is asked."""

    def __init__(self):
        self.names = {}
        self._system = socket.getaddrinfo
        socket.getaddrinfo = self._resolve

    def _resolve(self, host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        return self._system(self.names.get(name, host), *args, **kwargs)


resolver = Resolver()


def free_loopback_address(ports=(8883, 443)):
    """A loopback address on which nobody listens on the given ports."""
    while True:
        address = f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind((address, port))
            return address
        except OSError:
            continue


class Trust:
    """One bundle file with the certificate authority of every hub of this process, for `requests`."""

    def __init__(self):
        handle, self.path = tempfile.mkstemp(prefix="ostler-conformance-", suffix=".pem")
        os.close(handle)
        atexit.register(lambda: Path(self.path).unlink(missing_ok=True))

    def add(self, pem):
        with open(self.path, "a", encoding="ascii") as bundle:
            bundle.write(pem + "\n")
        os.environ["REQUESTS_CA_BUNDLE"] = self.path


trust = Trust()


class Hub:
    """A hub as its users know it: a name and the keys to it."""

    is_local = False

    def __init__(self, connection_string, ca_pem):
        self.connection_string = connection_string
        parts = parse_connection_string(connection_string)
        self.hostname = parts["HostName"]
        self.policy = parts["SharedAccessKeyName"]
        self.policy_key = parts["SharedAccessKey"]
        self.ca_pem = ca_pem

    @property
    def registry(self):
        # Only here, so that suites which judge by other clients need not install this one.
        from azure.iot.hub import IoTHubRegistryManager

        return IoTHubRegistryManager.from_connection_string(self.connection_string)

    @property
    def https(self):
        return Https(self)

    def device_connection_string(self, device_id, key, module_id=None):
        module = f";ModuleId={module_id}" if module_id else ""
        return f"HostName={self.hostname};DeviceId={device_id}{module};SharedAccessKey={key}"


class AzureHub(Hub):
    """The real service, named by OSTLER_AGAINST_AZURE (a connection string with all rights)."""

    def __init__(self, connection_string):
        super().__init__(connection_string, None)


def die_with_parent():
    """A test process that is killed must not leave its hubs behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class LocalHub(Hub):
    """One `ostler serve` process. With `data` it can be killed and started again on the same folder."""

    is_local = True

    def __init__(self, data=None, settings=None, name=None):
        """`name` is for clients that ask the system for addresses: an address of loopback, then."""
        self.address = free_loopback_address()
        name = name or "hub-" + self.address.replace(".", "-") + ".ostler.test"
        self.folder = Path(tempfile.mkdtemp(prefix="ostler-conformance-"))
        self.data = data
        # The suite signs in wrongly hundreds of times a minute, and always from the same address.
        self.settings = {"OSTLER_SIGN_IN_FAILURE_BURST": "1000000", **(settings or {})}
        self.process = None
        atexit.register(self.discard)
        self._name = name
        resolver.names[name] = self.address
        self.start()

    def start(self):
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        binary = os.environ.get("OSTLER_BIN", str(REPOSITORY / "target" / "debug" / "ostler"))
        storage = ["--data", str(self.data)] if self.data else ["--ephemeral"]
        command = [
            binary, "serve", *storage,
            "--bind", self.address, "--mqtt-port", "8883", "--https-port", "443",
            "--hostname", self._name, "--ready-file", str(ready),
        ]  # fmt: skip
        with open(self.folder / "hub.log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.settings},
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + START_DEADLINE
        pause = threading.Event()
        while not ready.exists():
            if self.process.poll() is not None:
                raise RuntimeError(f"the hub ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the hub was not ready within {START_DEADLINE} s:\n{self.log_tail()}")
            pause.wait(0.01)
        description = json.loads(ready.read_text())
        ca_pem = Path(description["caFile"]).read_text()
        first_start = not hasattr(self, "ca_pem")
        super().__init__(description["connectionString"], ca_pem)
        assert self.hostname == self._name, "the connection string carries the host name that was asked for"
        if first_start:
            trust.add(ca_pem)

    def log_tail(self, lines=40):
        return "\n".join((self.folder / "hub.log").read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        """The power cut: SIGKILL, nothing is said to anybody."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """The polite way: SIGTERM and its deadline. Returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def discard(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def trust_device_authority(self, name, pem):
        """Registers a certificate authority for devices (Azure does this on its management plane)."""
        answer = self.https.put(f"/ostler/v1/certificate-authorities/{name}", {"pem": pem})
        assert answer.status in (200, 201, 204), answer


class Wire:
    """A TCP relay between the devices of this process and a hub, to be cut at will."""

    def __init__(self, hub, ports=(8883, 443), address=None):
        self.hub = hub
        self.address = address or free_loopback_address(ports)
        self._pairs = []
        self._lock = threading.Lock()
        self._target = resolver.names.get(hub.hostname) or socket.gethostbyname(hub.hostname)
        self._listeners = [self._listen(port) for port in ports]

    def __enter__(self):
        self._before = resolver.names.get(self.hub.hostname)
        resolver.names[self.hub.hostname] = self.address
        return self

    def __exit__(self, *_):
        if self._before is None:
            del resolver.names[self.hub.hostname]
        else:
            resolver.names[self.hub.hostname] = self._before
        for listener in self._listeners:
            listener.close()
        self.cut()

    def _listen(self, port):
        listener = socket.create_server((self.address, port))
        threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()
        return listener

    def _accept(self, listener, port):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((self._target, port))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Resets every connection that runs through here; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
        return len(pairs)


def new_key():
    return base64.b64encode(os.urandom(32)).decode()
