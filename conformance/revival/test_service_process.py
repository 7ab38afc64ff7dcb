"""Threads, signals and the end of the process on the service side (revival §2.6, §7; acceptance tests 4 and 8)."""

import signal
import socket
import threading

import pytest
from hub import eventually
from iothub_service_client import IoTHubDeviceTwin, IoTHubRegistryManager, IoTHubRegistryManagerError

STALLED = """
import sys
from iothub_service_client import IoTHubDeviceTwin
print("calling", flush=True)
try:
    IoTHubDeviceTwin(sys.argv[1]).get_twin("d")
except KeyboardInterrupt:
    print("interrupted")
"""
DAEMON = """
import signal, sys, threading
from iothub_service_client import IoTHubDeviceTwin
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
twins = IoTHubDeviceTwin(sys.argv[1])
for _ in range(THREADS):
    threading.Thread(target=twins.get_twin, args=("d",), daemon=True).start()
print("waiting", flush=True)
signal.sigwait([signal.SIGUSR1])
print("leaving", flush=True)
"""
THREADS = 8


class SilentHub:
    """Takes connections and says nothing."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held = []
        key = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
        port = self._listener.getsockname()[1]
        self.connection_string = f"HostName=127.0.0.1:{port};SharedAccessKeyName=p;SharedAccessKey={key}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self._held.append(self._listener.accept()[0])
            except OSError:
                return

    def is_called(self, times=1):
        eventually(lambda: len(self._held) >= times, 30, "the call")

    def close(self):
        self._listener.close()
        for connection in self._held:
            connection.close()


@pytest.fixture
def silent_hub():
    hub = SilentHub()
    yield hub
    hub.close()


def test_ctrl_c_reaches_a_call_that_waits(silent_hub, program):
    running = program(code=STALLED.replace("sys.argv[1]", repr(silent_hub.connection_string)))
    running.wait_for("calling")
    silent_hub.is_called()
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.finish(timeout=10)
    assert code == 0 and "interrupted" in out and err == ""


def test_daemon_threads_that_wait_do_not_crash_the_end(silent_hub, program):
    code = DAEMON.replace("sys.argv[1]", repr(silent_hub.connection_string)).replace("THREADS", str(THREADS))
    running = program(code=code)
    running.wait_for("waiting")
    silent_hub.is_called(THREADS)
    running.process.send_signal(signal.SIGUSR1)
    code, out, _ = running.finish(timeout=20)
    assert code == 0 and out.endswith("leaving\n")


def test_other_threads_run_while_one_waits(silent_hub):
    registry = IoTHubRegistryManager(silent_hub.connection_string)
    ended = threading.Event()

    def call():
        try:
            registry.get_statistics()
        except IoTHubRegistryManagerError:
            ended.set()

    threading.Thread(target=call, daemon=True).start()
    # This thread gets on at all only because that one has let go of the interpreter.
    silent_hub.is_called()
    registry._service.stop()
    assert ended.wait(30)


def test_many_threads_with_clients_of_their_own(hub, device):
    found = []

    def look():
        found.append(IoTHubDeviceTwin(hub.connection_string).get_twin(device.device_id))

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 16 and len(set(found)) == 1


FORKED = """
import os, sys
from iothub_service_client import IoTHubDeviceTwin
twins = IoTHubDeviceTwin(CONNECTION)
first = twins.get_twin(DEVICE)
child = os.fork()
if child == 0:
    same = twins.get_twin(DEVICE) == first
    print("the same in the child", same, flush=True)
    sys.exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
print("and in the parent", twins.get_twin(DEVICE) == first)
"""


def test_a_forked_child_may_go_on(hub, device, program):
    code = FORKED.replace("CONNECTION", repr(hub.connection_string)).replace("DEVICE", repr(device.device_id))
    exit_code, out, err = program(code=code).finish(timeout=30)
    assert exit_code == 0, err
    assert out.splitlines() == ["the same in the child True", "and in the parent True"]
