"""Records what Azure's own Python service SDK (azure-iot-hub 2.7.0) sends, one JSON document a line.

No network: the HTTP library's last step is replaced by one that writes the request down and answers something plausible.
Run as `python record.py > python.jsonl` where the SDK is installed.
"""

import json
import sys
from urllib.parse import urlsplit

import requests
from azure.iot.hub import IoTHubConfigurationManager, IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    ConfigurationQueriesTestInput,
    Device,
    ExportImportDevice,
    JobRequest,
    QuerySpecification,
    Twin,
    TwinProperties,
)

CONNECTION_STRING = "HostName=h.example;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw=="
KEPT = ("if-match", "x-ms-max-item-count", "x-ms-continuation", "content-type")
LISTS = ("/devices", "/devices/pump-7/modules", "/configurations")
operation = None


def send(adapter, request, **_):
    url = urlsplit(request.url)
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = request.body.decode() if isinstance(request.body, bytes) else request.body
    print(
        json.dumps(
            {
                "operation": operation,
                "method": request.method,
                "path": url.path,
                "query": url.query,
                "headers": {name: headers[name] for name in KEPT if name in headers},
                "body": json.loads(body) if body else None,
            }
        )
    )
    answer = requests.Response()
    answer.status_code = 204 if request.method == "DELETE" or url.path.endswith("Content") else 200
    answer.headers["Content-Type"] = "application/json; charset=utf-8"
    answer.headers["x-ms-item-type"] = "Twin"
    answer._content = b"" if answer.status_code == 204 else b"[]" if request.method == "GET" and url.path in LISTS or url.path == "/devices/query" else b"{}"
    answer.request, answer.url = request, request.url
    return answer


requests.adapters.HTTPAdapter.send = send
registry = IoTHubRegistryManager.from_connection_string(CONNECTION_STRING)
jobs = IoTHubJobManager.from_connection_string(CONNECTION_STRING)
configurations = IoTHubConfigurationManager.from_connection_string(CONNECTION_STRING)
tags = Twin(tags={"site": "A"}, properties=TwinProperties(desired={"interval": 30}))
settings = ConfigurationContent(device_content={"properties.desired.fan": 2})
configuration = Configuration(
    id="fans-1", schema_version="1.0", content=settings, target_condition="tags.site='A'", priority=10
)
lock = CloudToDeviceMethod(
    method_name="lockDoor", payload={"delay": 5}, response_timeout_in_seconds=30, connect_timeout_in_seconds=0
)

CALLS = {
    "create_device": lambda: registry.create_device_with_sas("pump-7", None, None, "enabled"),
    "update_device": lambda: registry.update_device_with_sas("pump-7", "MQ==", "a2V5MWtleTFrZXkxa2V5MQ==", "a2V5MmtleTJrZXkya2V5Mg==", "disabled"),
    "device": lambda: registry.get_device("a+b#c%d"),
    "devices": lambda: registry.get_devices(20),
    "delete_device": lambda: registry.delete_device("pump-7"),
    "modules": lambda: registry.get_modules("pump-7"),
    "module": lambda: registry.get_module("pump-7", "valve"),
    "delete_module": lambda: registry.delete_module("pump-7", "valve", "MQ=="),
    "device_statistics": lambda: registry.get_device_registry_statistics(),
    "service_statistics": lambda: registry.get_service_statistics(),
    "bulk": lambda: registry.bulk_create_or_update_devices(
        [ExportImportDevice(id=name, import_mode="create", status="enabled") for name in ("pump-1", "pump-2")]
    ),
    "twin": lambda: registry.get_twin("pump-7"),
    "patch_twin": lambda: registry.update_twin("pump-7", tags, "AAAAAAAAAAE="),
    "replace_twin": lambda: registry.replace_twin("pump-7", tags),
    "patch_module_twin": lambda: registry.update_module_twin("pump-7", "valve", tags),
    "query": lambda: registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices"), "token", 50),
    "invoke": lambda: registry.invoke_device_method("pump-7", lock),
    "invoke_module": lambda: registry.invoke_device_module_method("pump-7", "valve", lock),
    "create_method_job": lambda: jobs.create_scheduled_job(
        "lock-1",
        JobRequest(
            job_id="lock-1",
            type="scheduleDeviceMethod",
            cloud_to_device_method=lock,
            query_condition="tags.site='A'",
            start_time="2026-01-31T03:00:00.0000000Z",
            max_execution_time_in_seconds=3600,
        ),
    ),
    "create_twin_job": lambda: jobs.create_scheduled_job(
        "twin-1",
        JobRequest(
            job_id="twin-1",
            type="scheduleUpdateTwin",
            update_twin=Twin(etag="*", tags={"site": "A"}, properties=TwinProperties(desired={"interval": 30})),
            query_condition="*",
            start_time="2026-01-31T03:00:00.0000000Z",
            max_execution_time_in_seconds=60,
        ),
    ),
    "job": lambda: jobs.get_scheduled_job("lock-1"),
    "cancel_job": lambda: jobs.cancel_scheduled_job("lock-1"),
    "configurations": lambda: configurations.get_configurations(20),
    "configuration": lambda: configurations.get_configuration("fans-1"),
    "create_configuration": lambda: configurations.create_configuration(configuration),
    "update_configuration": lambda: configurations.update_configuration(configuration, "MQ=="),
    "delete_configuration": lambda: configurations.delete_configuration("fans-1"),
    "test_configuration_queries": lambda: configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tags.site='A'", custom_metric_queries={"m": "select deviceId from devices"})
    ),
    "apply_configuration_content": lambda: configurations.apply_configuration_on_edge_device(
        "gateway-1", ConfigurationContent(modules_content={"cooler": {"properties.desired.fan": 2}})
    ),
}

for operation, call in CALLS.items():
    try:
        call()
    except Exception as error:  # the answer was not what it wanted; the request is written down already
        print(f"{operation}: {error!r}", file=sys.stderr)
