"""The old-style programs for devices in `samples/python-v1`, run as they are; their pairs are elsewhere."""

import signal

from conftest import SAMPLES
from test_device_messages import send


def test_telemetry_over_every_protocol(program, device):
    for protocol in ("http", "mqtt", "mqtt_ws", "amqp", "amqp_ws"):
        running = program(SAMPLES / "simulated_device.py", device.connection_string, "-p", protocol, "-n", "2")
        code, out, err = running.finish(60)
        assert (code, err) == (0, "")
        assert out.count("received for message with result = OK") == 2, out
        assert "Properties: {'temperatureAlert': '" in out


def test_the_interval_is_set_by_a_method(program, device):
    running = program(SAMPLES / "simulated_device.py", device.connection_string)
    running.wait_for("accepted message [0]")
    answer = device.invoke("SetTelemetryInterval", "3")
    assert answer.json == {"status": 200, "payload": {"Response": "Executed direct method SetTelemetryInterval"}}
    assert device.invoke("SetTelemetryInterval", '"soon"').json["status"] == 400
    assert device.invoke("Other").json["status"] == 404
    running.process.send_signal(signal.SIGINT)
    code, out, _ = running.finish()
    assert code == 0 and "sample stopped" in out


def test_messages_are_printed(program, device):
    running = program(SAMPLES / "receive_messages.py", device.connection_string)
    send(device, "Cloud to device message".encode(), [("prop0", "value")], messageid="m-1")
    assert "<<<Cloud to device message>>> & Size=23" in running.wait_for("Data:")
    assert "{'prop0': 'value'}" in running.wait_for("Properties")
    running.process.send_signal(signal.SIGINT)
    code, _, err = running.finish()
    assert (code, err) == (0, "")


def test_a_wrong_connection_string_is_told(program):
    code, out, _ = program(SAMPLES / "receive_messages.py", "nonsense").finish()
    assert (code, out) == (0, "Unexpected error IoTHubClient.IoTHubClient, IoTHubClientResult.ERROR from IoTHub\n")
