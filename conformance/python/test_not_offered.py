"""What Ostler does not offer yet: the SDKs' calls fail at once, and their error says so."""

import time

import pytest
from azure.iot.hub import IoTHubJobManager

from judges import HUB_SDK
from test_registry import status_of

operation = pytest.mark.operation
pytestmark = pytest.mark.local_only("Azure offers these")


@pytest.mark.sdk(HUB_SDK)
@operation("not offered yet: fails at once and says so")
def test_a_service_call_fails_at_once(hub):
    started = time.monotonic()
    status, _ = status_of(IoTHubJobManager.from_connection_string(hub.connection_string).get_import_export_jobs)
    assert status in (404, 501)
    assert time.monotonic() - started < 3, "the SDK does not retry it"
