"""The tutorials' programs, each pair run to its natural end as its users would (revival §6.1; acceptance test 4)."""

import itertools
import re
import signal

import pytest
from conftest import SAMPLES, register
from hub import eventually

pytestmark = pytest.mark.pair

# A door that takes its time: the caller's other threads must not notice.
SLOW_DOOR = """
import sys, time
from iothub_client import DeviceMethodReturnValue, IoTHubClient, IoTHubTransportProvider
def lock(name, payload, context):
    time.sleep(20)
    answer = DeviceMethodReturnValue()
    answer.response, answer.status = '{ "Response": "locked at last" }', 200
    return answer
client = IoTHubClient(sys.argv[1], IoTHubTransportProvider.MQTT)
client.set_device_method_callback(lock, 0)
print("listens", flush=True)
while True:
    time.sleep(10)
"""


def start(program, device, sample, *arguments):
    """A device's program, when it can be called."""
    running = program(SAMPLES / sample, device.connection_string, *arguments)
    wait_until_it_listens(device)
    return running


def wait_until_it_listens(device):
    # The hub knows when; a method that no sample knows is answered, or left unanswered, by all of them.
    device.invoke("areYouThere", response_timeout=5, connect_timeout=60)


def interrupt(running):
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.finish()
    assert (code, err) == (0, ""), "Ctrl-C ends it in order"
    return out


def finished(service):
    code, out, err = service.finish(timeout=150)
    assert (code, err) == (0, ""), out
    return out.splitlines()


def test_reboot(hub, device, program):
    rebooting = program(SAMPLES / "reboot_device.py", device.connection_string)
    connected(device)
    said = finished(program(SAMPLES / "reboot_service.py", hub.connection_string, device.device_id))
    # The device answers 20 s after it was asked, inside the caller's minute.
    assert said[:2] == [f"Asking {device.device_id} to reboot", "The device answered 200:"]
    assert said[2].startswith("{") and '": "' not in said[2]
    assert re.fullmatch(r'Last reboot time: :"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{4}', said[-1])
    assert "Rebooting ..." in interrupt(rebooting)


def connected(device):
    """Waits for a device whose methods take long, and so is not asked."""
    eventually(device.connected, 60, "the device's connection")


def test_firmware_update(hub, device, program):
    updating = program(SAMPLES / "firmware_update_device.py", device.connection_string)
    said = finished(program(SAMPLES / "firmware_update_service.py", hub.connection_string, device.device_id))
    assert said[0] == "iothub_service_client 1.4.6"
    steps = [line.rsplit(": ", 1)[1] for line in said if line.startswith("Firmware status: ")]
    # Each step lasts 15 s and is looked for every 6, so that none can be missed.
    assert [step for step, _ in itertools.groupby(steps)] == ["standBy", "downloading", "applying", "completed"]
    assert '{"Response":"Firmware update started"}' in said
    out = interrupt(updating)
    assert "over MQTT waits" in out and "https://example.com/firmware-2.0" in out


def jobs(program, hub, device_id):
    return program(SAMPLES / "schedule_jobs_service.py", hub.connection_string, device_id)


def test_jobs_on_a_device_among_the_first_ten(own_hub, program):
    devices = [register(own_hub, f"door-{number:02}") for number in range(12)]
    door = devices[7]
    locking = start(program, door, "lock_device.py")
    said = finished(jobs(program, own_hub, door.device_id))
    assert sum("found door-07" in line for line in said) == 2
    assert any(line.endswith('lockDoor answered 200 {"Response":"lockDoor called successfully"}') for line in said)
    assert sum("done" in line for line in said) == 2 and any("updated the twin" in line for line in said)
    seen = interrupt(locking)
    assert "Locking the door!" in seen and "A change (PARTIAL)" in seen
    # The whole twin first, then only what the job changed, with the version last.
    assert re.search(r'A change \(PARTIAL\): \{"building":43,"floor":3,"\$version":\d+\}', seen)


def test_jobs_with_fewer_than_ten_devices(own_hub, program):
    devices = [register(own_hub, f"door-{number:02}") for number in range(3)]
    locking = start(program, devices[2], "lock_device.py")
    said = finished(jobs(program, own_hub, "door-02"))
    assert sum("done" in line for line in said) == 2
    interrupt(locking)
    # A device that is not there: the thread runs off the end of the list, as it always did, and main goes on.
    code, out, err = jobs(program, own_hub, "door-99").finish(timeout=60)
    assert code == 0 and out.count("done") == 2 and err.count("IndexError: list index out of range") == 2


def test_the_main_thread_keeps_its_rhythm_while_a_call_waits(own_hub, program):
    door = register(own_hub, "door")
    slow = program(code=SLOW_DOOR.replace("sys.argv[1]", repr(door.connection_string)))
    slow.wait_for("listens")
    connected(door)
    said = finished(jobs(program, own_hub, "door"))
    answered = next(index for index, line in enumerate(said) if "answered 200" in line)
    # Every 6 s a line, for 20 s: at 0, 6, 12 and 18 s.
    assert sum(line.endswith("running") for line in said[:answered]) >= 3
    assert '{"Response":"locked at last"}' in said[answered]


# ---------------------------------------------------------------- back ends without another half


def test_registry_manager(hub, program):
    said = finished(program(SAMPLES / "registry_manager.py", hub.connection_string, "registry-sample"))
    text = "\n".join(said)
    assert re.search(r"deviceId += registry-sample", text) and "connectionState" in text
    assert re.search(r"status += ENABLED", text) and re.search(r"status += DISABLED", text)
    assert "SHARED_PRIVATE_KEY" in text and said[-1] == "Deleted registry-sample"


def test_twin_search(own_hub, program):
    devices = [register(own_hub, f"pump-{number}") for number in range(3)]
    said = finished(program(SAMPLES / "twin_search.py", own_hub.connection_string, devices[1].device_id))
    assert said[-2:] == [
        "Devices in Redmond43 plant: pump-1",
        "Devices in Redmond43 plant using cellular network: ",
    ]


def test_messages(own_hub, program):
    # Feedback goes to whoever asks the hub first, so no other test may be there to ask.
    device = register(own_hub)
    receiving = program(SAMPLES / "receive_messages.py", device.connection_string)
    said = finished(program(SAMPLES / "send_messages.py", own_hub.connection_string, device.device_id))
    assert "open_complete_callback called with context: 1" in said
    sent = [line for line in said if line.startswith("send_complete_callback")]
    assert sent == [f"send_complete_callback called with context: {number}, result: OK" for number in range(3)]
    assert sum(line.startswith("feedback for message_") and "success (0)" in line for line in said) == 3
    assert said[-1] == "3 of 3 messages have been told of"
    out = interrupt(receiving)
    assert out.count("Received Message") == 3 and "'number': '2'" in out
