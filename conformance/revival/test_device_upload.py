"""Uploads by `iothub_client` (revival §2.7, §8.9)."""

import hashlib
import threading
import urllib.parse

import pytest
from conftest import SAMPLES
from iothub_client import (
    IoTHubClient,
    IoTHubClientError,
    IoTHubClientFileUploadResult,
    IoTHubTransportProvider,
)
from watcher import Calls

MQTT = IoTHubTransportProvider.MQTT
OK = IoTHubClientFileUploadResult.OK


def stored(device, name):
    """The content of a file of the device, as the hub has it."""
    path = urllib.parse.quote(f"{device.device_id}/{name}", safe="")
    answer = device.hub.https.get(f"/ostler/v1/files/{path}")
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize("provider", list(IoTHubTransportProvider.names.values()), ids=str)
def test_text_is_uploaded_whatever_the_provider(device, provider):
    client, uploaded = IoTHubClient(device.connection_string, provider), Calls()
    content = "this is the content of a file\nof two lines"
    client.upload_blob_async("a file.txt", content, len(content), uploaded, 1001)
    result, context = uploaded.next()
    assert result is OK and str(result) == "OK" and context == 1001
    assert stored(device, "a file.txt") == content.encode()


@pytest.mark.parametrize(
    "source, size, expected",
    [
        ("größer", 6, "größer".encode()),
        ("plain text", 5, b"plain"),
        (b"\0\xff bytes", 8, b"\0\xff bytes"),
        (b"bytes", 2, b"by"),
        (bytearray(b"array"), 5, b"array"),
        ("", 0, b""),
    ],
)
def test_sizes_of_uploads(device, source, size, expected):
    client, uploaded = IoTHubClient(device.connection_string, MQTT), Calls()
    client.upload_blob_async("sized.bin", source, size, uploaded, None)
    assert uploaded.next() == (OK, None)
    assert stored(device, "sized.bin") == expected


def test_a_file_of_several_blocks_and_several_at_once(device):
    client, uploaded = IoTHubClient(device.connection_string, MQTT), Calls()
    contents = [hashlib.sha256(bytes([number])).digest() * 300_000 for number in range(3)]
    for number, content in enumerate(contents):
        client.upload_blob_async(f"large-{number}.bin", content, len(content), uploaded, number)
    assert sorted(uploaded.next()[1] for _ in contents) == [0, 1, 2]
    for number, content in enumerate(contents):
        assert stored(device, f"large-{number}.bin") == content


def test_an_upload_runs_beside_the_callbacks_of_its_client(device):
    """It has a thread of its own, so a callback that sleeps does not hold it up."""
    awake = threading.Event()
    client, uploaded, asleep = IoTHubClient(device.connection_string, MQTT), Calls(), Calls(lambda *_: awake.wait(60))
    client.set_device_twin_callback(asleep, 0)
    asleep.next()
    client.upload_blob_async("beside.txt", "x", 1, uploaded, 0)
    assert uploaded.next() == (OK, 0) and not awake.is_set()
    awake.set()
    assert not uploaded.threads & asleep.threads


def test_an_upload_that_is_refused_is_an_error_in_the_callback(device):
    wrong = device.connection_string.replace(device.device_id, "no-such-device")
    client, uploaded = IoTHubClient(wrong, MQTT), Calls()
    client.upload_blob_async("x.txt", "x", 1, uploaded, 0)
    assert uploaded.next() == (IoTHubClientFileUploadResult.ERROR, 0)


def test_arguments_of_uploads(device):
    client = IoTHubClient(device.connection_string, MQTT)
    with pytest.raises(TypeError):
        client.upload_blob_async("x.txt", None, 1, Calls(), 0)
    with pytest.raises(TypeError):
        client.upload_blob_async("x.txt", "x", "1", Calls(), 0)
    with pytest.raises(IoTHubClientError, match="IoTHubClient.upload_to_blob_async, IoTHubClientResult.INVALID_ARG"):
        client.upload_blob_async("x.txt", "x", -1, Calls(), 0)


def test_a_program_that_ends_during_its_upload(program, device):
    code = """
import sys
from iothub_client import *
client = IoTHubClient(sys.argv[1], IoTHubTransportProvider.HTTP)
client.upload_blob_async("last.txt", "the last words", 14, lambda *a: print(*a, flush=True), 7)
"""
    assert program("-c", code, device.connection_string).finish() == (0, "OK 7\n", "")
    assert stored(device, "last.txt") == b"the last words"


BEGUN = """
import sys, threading, time
from iothub_client import *
from iothub_client import _session
# A client that is dropped has no time for messages; what it uploads is ended all the same.
_session.LINGER = _session.GRACE = 0.0
client = IoTHubClient(sys.argv[1], IoTHubTransportProvider.HTTP)
"""


def test_a_client_that_is_dropped_ends_its_upload_first(program, device):
    code = """
content = b"0123456789abcdef" * 1_000_000
client.upload_blob_async("dropped.bin", content, len(content), lambda *a: print(*a, flush=True), 7)
del client
print("dropped", flush=True)
"""
    code, out, err = program("-c", BEGUN + code, device.connection_string).finish(60)
    assert (code, out, err) == (0, "OK 7\ndropped\n", "")


def test_a_client_that_is_dropped_lets_the_callback_of_its_upload_end(program, device):
    code = """
called = threading.Event()
def uploaded(*_):
    called.set()
    time.sleep(1)
    print("told", flush=True)
client.upload_blob_async("told.txt", "x", 1, uploaded, 0)
called.wait()
del client
print("dropped", flush=True)
"""
    assert program("-c", BEGUN + code, device.connection_string).finish() == (0, "told\ndropped\n", "")


def test_the_old_style_program(program, device):
    path = SAMPLES / "upload_file.py"
    code, out, err = program(path, device.connection_string).finish(60)
    assert (code, err) == (0, "") and "...file uploaded successfully." in out
    assert stored(device, "upload_file.py") == path.read_bytes()
