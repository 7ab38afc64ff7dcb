"""The devices, modules and jobs of the query language's sample set (query §10), made on a hub as users would make them.

What only the service writes is made to happen: devices connect, report, are called by a job, are targeted by
configurations. Times and the edge scope come out as they do, so `literal` says what to ask for instead of the ones
in the sample.
"""

import datetime
import json
import threading
from urllib.parse import quote

from azure.iot.hub import IoTHubConfigurationManager, IoTHubJobManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    JobRequest,
    Twin,
    TwinProperties,
)

from hub import eventually, new_key
from identities import Identity
from rawmqtt import Plain

THUMBPRINT = "A1" * 20
REPORT = "$iothub/twin/PATCH/properties/reported/?$rid=1"
ANSWERS = ("$iothub/twin/res/#", 0)
METHODS = ("$iothub/methods/POST/#", 0)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


class Sample:
    def __init__(self, hub):
        self.hub = hub
        self.https = hub.https
        self.keys = {}
        self.connected = []
        self._identities()
        self._offline_devices()
        self.active_since = now()
        self._online_devices()
        self._modules()
        self._configurations()
        self._jobs()

    def literal(self, text):
        """`text`, a query of the sample, with the values that this hub gave."""
        for theirs, ours in (
            ("ms-azure-iot-edge://edge-1-1", self.scope),
            ("lastActivityTime >= '2024-05-01'", f"lastActivityTime >= '{self.active_since}'"),
            ("$lastUpdated > '2024-05-01T07'", f"$lastUpdated > '{self.last_report_since}'"),
            ("createdTimeUtc > '2024-05-01T12'", f"createdTimeUtc > '{self.second_job_since}'"),
        ):
            text = text.replace(theirs, ours)
        return text

    def close(self):
        for client in self.connected:
            client.close()

    # ------------------------------------------------------------ what the service writes

    def _put(self, device_id, **fields):
        answer = self.https.put(f"/devices/{device_id}", {"deviceId": device_id, **fields})
        assert answer.status == 200, answer
        self.keys[device_id] = answer.json["authentication"]["symmetricKey"]["primaryKey"]
        return answer.json

    def _identities(self):
        self.scope = self._put("edge-1", capabilities={"iotEdge": True})["deviceScope"]
        thumbprint = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": THUMBPRINT, "secondaryThumbprint": None}}
        self._put("fan-01", status="disabled", statusReason="broken", authentication=thumbprint)
        self._put("fan-02", deviceScope=self.scope)
        for device_id in ("pump-01", "pump-02", "Pump-03"):
            self._put(device_id)
        self._write("edge-1", tags={"site": "Bergen", "group": "g2"})
        self._write("fan-01", tags={"site": "Bergen", "floor": "2", "group": "g1"}, desired={"interval": 60})
        tags = {"site": "Oslo", "floor": 2, "group": "g1", "critical": True, "labels": ["wet", "loud"]}
        self._write("pump-01", tags=tags, desired={"interval": 30, "mode": "auto"}, times=3)
        tags = {"site": "Oslo", "floor": 3, "group": "g1", "critical": False}
        self._write("pump-02", tags=tags, desired={"interval": 60, "mode": "manual"}, times=4)
        self._write("Pump-03", tags={"site": "oslo"}, desired={"interval": 45})

    def _write(self, path, tags=None, desired=None, times=1):
        """Patches the twin `times` times, so that `$version` of desired ends one higher than that."""
        patch = {"tags": tags or {}}
        if desired is not None:
            patch["properties"] = {"desired": desired}
        for _ in range(times):
            assert self.https.patch(f"/twins/{path}", patch).status == 200

    # ------------------------------------------------------------ what devices do

    def _client(self, device_id, module_id=None):
        key = self.keys[device_id]
        if module_id:
            path = f"/devices/{device_id}/modules/{quote(module_id)}"
            answer = self.https.get(path)
            if answer.status == 404:
                answer = self.https.put(path, {"deviceId": device_id, "moduleId": module_id})
            key = answer.json["authentication"]["symmetricKey"]["primaryKey"]
        client = Plain(Identity(self.hub, device_id, key or new_key(), module_id))
        assert client.connect()[0] == 0
        client.subscribe(ANSWERS)
        return client

    @staticmethod
    def _report(client, values, times=1):
        for _ in range(times):
            assert client.request(REPORT, json.dumps(values).encode())[0] == 204

    def _offline_devices(self):
        pump, other = self._client("pump-02"), self._client("Pump-03")
        self._report(pump, {"interval": 30, "temp": "hot", "fw": {"ver": "1.10.0"}}, times=2)
        self._report(other, {"interval": 45, "temp": 40, "fw": "1.3.0"})
        for client, device_id in ((pump, "pump-02"), (other, "Pump-03")):
            client.close()
            eventually(lambda device_id=device_id: self._state(device_id) == "Disconnected")
        identity = self.https.get("/devices/Pump-03").json
        identity["authentication"] = {"type": "certificateAuthority"}
        assert self.https.put("/devices/Pump-03", identity, headers={"If-Match": "*"}).status == 200

    def _state(self, device_id):
        return self.https.get(f"/devices/{device_id}").json["connectionState"]

    def _online_devices(self):
        edge, fan, pump = (self._client(device_id) for device_id in ("edge-1", "fan-02", "pump-01"))
        self.connected = [edge, fan, pump]
        self._report(fan, {"temp": 20})
        self.last_report_since = now()
        self._report(pump, {"interval": 30, "temp": 71.5, "fw": {"ver": "1.2.0"}}, times=8)
        self.pump = pump

    def _modules(self):
        for path, tags, reported in (
            (("edge-1", "filter"), {"stage": "test"}, {"status": "scanning"}),
            (("pump-01", "ui"), {"stage": "prod"}, {"status": "idle"}),
            (("edge-1", "$edgeAgent"), {}, {"lastDesiredVersion": 7, "lastDesiredStatus": {"code": 200}}),
        ):
            client = self._client(*path)
            self._report(client, reported)
            client.close()
            twin = f"{path[0]}/modules/{quote(path[1])}"
            self._write(twin, tags=tags)
            if path[1] == "$edgeAgent":
                self._write(twin, desired={"schemaVersion": "1.1"}, times=6)

    # ------------------------------------------------------------ what the engines do

    def _configurations(self):
        manager = IoTHubConfigurationManager.from_connection_string(self.hub.connection_string)
        for name, priority in (("cfg-a", 10), ("cfg-b", 5)):
            content = ConfigurationContent(device_content={"properties.desired.cooling": {"fan": priority}})
            condition = "deviceId = 'edge-1'"
            manager.create_configuration(
                Configuration(
                    id=name, schema_version="1.0", content=content, target_condition=condition, priority=priority, labels={}
                )
            )
        wanted = {"cfg-a": {"status": "Applied"}, "cfg-b": {"status": "Targeted"}}
        eventually(lambda: self.https.get("/twins/edge-1").json.get("configurations") == wanted, what="both configurations")

    def _jobs(self):
        jobs = IoTHubJobManager.from_connection_string(self.hub.connection_string)
        self.pump.subscribe(METHODS)
        answering = threading.Thread(target=self._answer_one_call, daemon=True)
        answering.start()
        call = CloudToDeviceMethod(method_name="lock", payload={}, response_timeout_in_seconds=10)
        condition = "deviceId IN ['pump-01', 'pump-02']"
        jobs.create_scheduled_job(
            "j1",
            JobRequest(job_id="j1", type="scheduleDeviceMethod", cloud_to_device_method=call,
                       query_condition=condition, max_execution_time_in_seconds=2),
        )  # fmt: skip
        answering.join(20)
        eventually(lambda: jobs.get_scheduled_job("j1").status == "completed", 30, "the end of j1")
        self.second_job_since = now()
        update = Twin(etag="*", properties=TwinProperties(desired={"note": 1}))
        jobs.create_scheduled_job(
            "j2",
            JobRequest(job_id="j2", type="scheduleUpdateTwin", update_twin=update,
                       query_condition="deviceId = 'fan-02'", max_execution_time_in_seconds=60),
        )  # fmt: skip
        eventually(lambda: jobs.get_scheduled_job("j2").status == "completed", 30, "the end of j2")

    def _answer_one_call(self):
        topic, _ = self.pump.next()
        rid = topic.rsplit("/?$rid=", 1)[1]
        self.pump.publish(f"$iothub/methods/res/200/?$rid={rid}", b"{}", qos=0)
