"""File upload: azure-iot-device asks for a place and tells how it went, azure-storage-blob sends the file there.

The storage client is used as the SDK's own samples use it. Against Azure the hub needs a storage account.
"""

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError
from azure.iot.device.exceptions import ClientError
from azure.storage.blob import BlobBlock, BlobClient

from devices import FACES
from judges import DEVICE_SDK

pytestmark = [
    pytest.mark.sdk(DEVICE_SDK + " MQTT"),
    pytest.mark.operation("file upload"),
    pytest.mark.local_only("needs a storage account behind the hub"),
]

LARGE = bytes(range(256)) * 1024 * 20  # 5 MiB


def begin(client, name):
    return client._run(client.client.get_storage_info_for_blob, name)


def end(client, info, success, status=200):
    client._run(client.client.notify_blob_upload_status, info["correlationId"], success, status, "as the test says")


def storage(info, **options):
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, **options)


def stored(hub, device, name):
    return hub.https.get(f"/ostler/v1/files/{device.device_id}/{name}", api_version=None)


@pytest.fixture(params=FACES, ids=str)
def client(request, device, connect):
    return connect(device, face=request.param)


def test_a_small_file(hub, device, client):
    info = begin(client, "logs/small file.txt")
    assert info["hostName"] == hub.hostname
    assert info["blobName"] == f"{device.device_id}/logs/small file.txt"
    with storage(info) as blob:
        answer = blob.upload_blob(b"it works", overwrite=True)
    assert answer["etag"] and answer["last_modified"]
    end(client, info, True)
    assert stored(hub, device, "logs/small%20file.txt").body == b"it works"
    assert "desired" in client.get_twin(), "the connection is as before"


def test_an_empty_file(hub, device, client):
    info = begin(client, "empty")
    with storage(info) as blob:
        blob.upload_blob(b"", overwrite=True)
    end(client, info, True)
    assert stored(hub, device, "empty").body == b""


def test_a_large_file_in_blocks(hub, device, client):
    info = begin(client, "large.bin")
    with storage(info, max_single_put_size=1 << 20, max_block_size=1 << 20) as blob:
        blob.upload_blob(LARGE, overwrite=True, max_concurrency=4)
    end(client, info, True)
    assert stored(hub, device, "large.bin").body == LARGE


def test_a_stream_of_unknown_length(hub, device, client):
    info = begin(client, "stream.bin")
    with storage(info, max_single_put_size=1 << 20, max_block_size=1 << 20) as blob:
        blob.upload_blob((LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)), overwrite=True)
    end(client, info, True)
    assert stored(hub, device, "stream.bin").body == LARGE


def test_a_file_is_not_replaced_unless_asked(hub, device, client):
    info = begin(client, "once")
    with storage(info) as blob:
        blob.upload_blob(b"first")
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"second")
        assert stored(hub, device, "once").body == b"first"
        blob.upload_blob(b"third", overwrite=True)
    end(client, info, True)
    assert stored(hub, device, "once").body == b"third"


def test_a_failure_is_told_and_leaves_nothing(hub, device, client):
    info = begin(client, "never")
    end(client, info, False, 500)
    assert stored(hub, device, "never").status == 404
    with storage(info) as blob, pytest.raises(ClientAuthenticationError):
        blob.upload_blob(b"too late", overwrite=True)


def test_what_is_refused(hub, device, client):
    info = begin(client, "f")
    other = {**info, "blobName": f"{device.device_id}/g"}
    with storage(other) as blob, pytest.raises(ClientAuthenticationError):
        blob.upload_blob(b"x", overwrite=True)
    with storage(info) as blob:
        blob.stage_block("000000", b"x")
        with pytest.raises(HttpResponseError) as refused:
            blob.commit_block_list([BlobBlock("000000"), BlobBlock("000001")])
    assert refused.value.error_code == "InvalidBlockList"
    with pytest.raises(ClientError):
        end(client, info, True)
    with pytest.raises(ClientError):
        begin(client, "../../etc/passwd")
    for number in range(9):
        begin(client, f"f{number}")
    with pytest.raises(ClientError):
        begin(client, "one too many")
