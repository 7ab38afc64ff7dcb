"""How programs of `iothub_client` end: nothing hangs, nothing crashes, nothing that was sent is lost in silence
(revival §8.8)."""

import signal

import pytest
from conftest import register
from hub import eventually

HEAD = """
import sys, threading, time
from iothub_client import *
def say(*what):
    # In one piece, because two threads talk.
    sys.stdout.write(" ".join(map(str, what)) + "\\n")
def confirmed(message, result, context):
    say("confirmed", result, context)
client = IoTHubClient(sys.argv[1], IoTHubTransportProvider.MQTT)
"""


def run(program, text, *arguments, **environment):
    return program("-c", HEAD + text, *arguments, **environment)


NOWHERE = "HostName=192.0.2.1;DeviceId=d;SharedAccessKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_a_client_dropped_right_after_send_delivers(program, device):
    text = 'client.send_event_async(IoTHubMessage(bytearray(b"x")), confirmed, 1)\ndel client\nsay("dropped")'
    code, out, err = run(program, text, device.connection_string).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["confirmed OK 1", "dropped"]


def test_a_program_that_ends_right_after_send_delivers(program, device):
    text = 'client.send_event_async(IoTHubMessage("x"), confirmed, 1)'
    code, out, err = run(program, text, device.connection_string).finish()
    assert (code, out, err) == (0, "confirmed OK 1\n", "")


def test_a_program_that_ends_without_a_network_says_so(program):
    code, out, err = run(program, 'client.send_event_async(IoTHubMessage("x"), confirmed, 1)', NOWHERE).finish()
    assert (code, out, err) == (0, "confirmed BECAUSE_DESTROY 1\n", "")


STAGES = {
    "constructed": "",
    "connecting": "client.set_device_twin_callback(lambda *_: None, client)\n",
    "queued": 'client.send_event_async(IoTHubMessage("x"), confirmed, client)\n',
    "methods": "client.set_device_method_callback(lambda *_: None, 0)\nclient.set_message_callback(lambda *_: 0, 0)\n",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("network", [True, False], ids=["hub", "nowhere"])
def test_ctrl_c_reaches_a_sleeping_main_thread_at_every_stage(program, device, stage, network):
    text = STAGES[stage] + 'try:\n    say("asleep")\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    say("stopped")'
    running = run(program, text, device.connection_string if network else NOWHERE)
    running.wait_for("asleep")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stopped")
    code, _, err = running.finish(15)
    assert (code, err) == (0, "")


def test_ctrl_c_ends_the_wait_of_a_program_that_is_ending(program):
    text = 'client.send_event_async(IoTHubMessage("x"), confirmed, 0)\nsay("ending")'
    running = run(program, text, NOWHERE)
    running.wait_for("ending")
    running.process.send_signal(signal.SIGINT)
    running.finish(15)
    assert running.process.returncode in (0, 1, -signal.SIGINT, 130)


def test_exit_with_a_callback_asleep_neither_hangs_nor_crashes(program, device):
    text = """
asleep = threading.Event()
def slow(*_):
    asleep.set()
    time.sleep(600)
client.set_device_twin_callback(slow, client)
asleep.wait()
say("asleep")
"""
    running = run(program, text, device.connection_string)
    running.wait_for("asleep")
    code, _, err = running.finish(30)
    assert (code, err) == (0, "")


def test_exit_with_more_callbacks_waiting_than_there_is_time_for(program, device):
    text = """
first = threading.Event()
def slow(message, result, context):
    first.set()
    time.sleep(0.5)
for number in range(200):
    client.send_event_async(IoTHubMessage("x"), slow, number)
first.wait()
say("leaving")
"""
    # All callbacks together would take 100 s.
    code, out, err = run(program, text, device.connection_string).finish(60)
    assert (code, out, err) == (0, "leaving\n", "")


def test_exit_with_many_live_clients(program, hub):
    text = """
clients = [IoTHubClient(text, IoTHubTransportProvider.MQTT) for text in sys.argv[2:]]
seen = []
for one in clients:
    one.set_device_twin_callback(lambda *_: seen.append(1), one)
    one.set_device_method_callback(lambda *_: None, one)
while len(seen) < len(clients):
    time.sleep(0.01)
say("up")
"""
    strings = [register(hub).connection_string for _ in range(8)]
    code, out, err = run(program, text, strings[0], *strings).finish()
    assert (code, out, err) == (0, "up\n", "")


def test_a_client_that_is_its_own_context_lives_on(program, device):
    text = """
def method(name, payload, context):
    value = DeviceMethodReturnValue()
    value.response, value.status = '{"of":"%s"}' % type(context).__name__, 200
    return value
def begin(client):
    client.set_device_method_callback(method, client)
begin(client)
del client
import gc
gc.collect()
say("up")
time.sleep(600)
"""
    running = run(program, text, device.connection_string)
    running.wait_for("up")
    answer = device.invoke("who", connect_timeout=20)
    assert answer.json == {"status": 200, "payload": {"of": "IoTHubClient"}}


def test_a_client_without_references_ends_its_connection(program, device, tmp_path):
    text = """
import os
client.set_device_method_callback(lambda *_: None, 0)
say("up")
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
del client
say("down", threading.active_count())
time.sleep(600)
"""
    mark = tmp_path / "drop"
    running = run(program, text, device.connection_string, mark)
    running.wait_for("up")
    eventually(device.connected)
    mark.touch()
    assert running.wait_for("down").split() == ["down", "1"]
    eventually(lambda: not device.connected())


def test_a_client_that_only_its_last_message_refers_to_ends_by_itself(program, device):
    text = """
client.send_event_async(IoTHubMessage("x"), confirmed, client)
del client
say("dropped")
while threading.active_count() > 1:
    time.sleep(0.01)
say("ended")
"""
    code, out, err = run(program, text, device.connection_string).finish()
    assert (code, err) == (0, "")
    said = out.splitlines()
    assert len(said) == 3 and "dropped" in said and said[-1] == "ended" and "confirmed OK" in out


def test_clients_in_reference_cycles_are_collected(program, device):
    text = """
import gc, weakref
class Owner:
    pass
owner = Owner()
owner.client, client.owner = client, owner
client.send_event_async(IoTHubMessage("x"), confirmed, 1)
gone = weakref.ref(client)
del client, owner
while gone() is not None:
    gc.collect()
while threading.active_count() > 1:
    time.sleep(0.01)
say("collected")
"""
    code, out, err = run(program, text, device.connection_string).finish()
    assert (code, out.splitlines(), err) == (0, ["confirmed OK 1", "collected"], "")


def test_sys_exit_in_a_callback_ends_the_process(program, device):
    text = "client.send_event_async(IoTHubMessage('x'), lambda *_: sys.exit(7), 0)\ntime.sleep(600)"
    assert run(program, text, device.connection_string).finish()[0] == 7


def test_logs_are_silent_unless_asked_for_and_show_no_key(program, device):
    text = 'client.send_event_async(IoTHubMessage("x"), confirmed, 0)'
    code, out, err = run(program, text, device.connection_string, OSTLER_LOG="trace").finish()
    assert code == 0 and out == "confirmed OK 0\n"
    assert err and device.key not in err and "sig=" not in err


def test_callbacks_go_on_when_nobody_reads_stderr_any_more(program, device):
    """As in `program 2>&1 | head`: the tracebacks are lost, nothing else is."""
    text = """
class Gone:
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")
    def flush(self):
        pass
def mistaken(*_):
    raise ValueError("nobody will know")
sys.stderr = Gone()
client.send_event_async(IoTHubMessage("x"), mistaken, 0)
client.send_event_async(IoTHubMessage("x"), confirmed, 1)
deadline = time.monotonic() + 60
while client.get_send_status() is IoTHubClientStatus.BUSY and time.monotonic() < deadline:
    time.sleep(0.01)
"""
    assert run(program, text, device.connection_string).finish(90)[:2] == (0, "confirmed OK 1\n")
