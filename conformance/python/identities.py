"""A device (or module) that a test registered: how to sign in as it, and how the service reaches it."""

from azure.iot.hub import models


class Identity:
    """A device (or module) that a test registered, and how to sign in as it."""

    def __init__(self, hub, device_id, key, module_id=None):
        self.hub = hub
        self.device_id = device_id
        self.module_id = module_id
        self.key = key

    @property
    def client_id(self):
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    @property
    def resource(self):
        module = f"/modules/{self.module_id}" if self.module_id else ""
        return f"{self.hub.hostname}/devices/{self.device_id}{module}"

    @property
    def connection_string(self):
        return self.hub.device_connection_string(self.device_id, self.key, self.module_id)

    @property
    def twin_path(self):
        module = f"/modules/{self.module_id}" if self.module_id else ""
        return f"/twins/{self.device_id}{module}"

    def twin(self):
        return self.hub.https.get(self.twin_path).json

    def patch_twin(self, patch):
        answer = self.hub.https.patch(self.twin_path, patch)
        assert answer.status == 200, answer
        return answer.json

    def invoke(self, method, payload=None, response_timeout=30, connect_timeout=0):
        """Invokes with azure-iot-hub, in its own spelling."""
        call = models.CloudToDeviceMethod(
            method_name=method,
            payload=payload,
            response_timeout_in_seconds=response_timeout,
            connect_timeout_in_seconds=connect_timeout,
        )
        if self.module_id:
            return self.hub.registry.invoke_device_module_method(self.device_id, self.module_id, call)
        return self.hub.registry.invoke_device_method(self.device_id, call)
