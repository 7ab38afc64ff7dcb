"""azure-iot-device behind one face, so that each case is written once and runs blocking and asyncio.

Nothing is added to the SDK: each call goes to the method of the same name, with a deadline around it because the
SDK's own twin calls wait for ever.
"""

import asyncio
import queue
import threading

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient as AioDeviceClient
from azure.iot.device.aio import IoTHubModuleClient as AioModuleClient

from hub import eventually

DEADLINE = 25.0


def build(classes, identity, how, **options):
    """Creates a client from what the identity has: the factory's name is `create_from_` + `how`."""
    kind = classes[1] if identity.module_id else classes[0]
    if identity.hub.ca_pem:
        options["server_verification_cert"] = identity.hub.ca_pem
    if how == "connection_string":
        text = options.pop("connection_string", None) or identity.connection_string
        return kind.create_from_connection_string(text, **options)
    if how == "sastoken":
        return kind.create_from_sastoken(options.pop("sastoken"), **options)
    names = {"hostname": identity.hub.hostname, "device_id": identity.device_id}
    if identity.module_id:
        names["module_id"] = identity.module_id
    if how == "x509_certificate":
        return kind.create_from_x509_certificate(options.pop("x509"), **names, **options)
    assert how == "symmetric_key"
    return kind.create_from_symmetric_key(identity.key, **names, **options)


class Driver:
    """What the tests use. Received items land in queues."""

    def __init__(self, client):
        self.client = client
        self.desired = queue.Queue()
        self.methods = queue.Queue()
        self.messages = queue.Queue()
        self.connection_changes = queue.Queue()
        self.background_errors = queue.Queue()

    @property
    def connected(self):
        return self.client.connected

    def connect(self):
        return self._run(self.client.connect)

    def disconnect(self):
        return self._run(self.client.disconnect)

    def shutdown(self):
        return self._run(self.client.shutdown)

    def send(self, message):
        return self._run(self.client.send_message, message)

    def send_to_output(self, message, output):
        return self._run(self.client.send_message_to_output, message, output)

    def get_twin(self):
        return self._run(self.client.get_twin)

    def report(self, patch):
        return self._run(self.client.patch_twin_reported_properties, patch)

    def update_sastoken(self, token):
        return self._run(self.client.update_sastoken, token)

    def answer(self, request, status=200, payload=None):
        return self._run(
            self.client.send_method_response, MethodResponse.create_from_method_request(request, status, payload)
        )

    def wait_for_change(self):
        """Waits until the SDK tells of a change: of a loss, if it was connected."""
        self.connection_changes.get(timeout=DEADLINE)

    def wait_for_return(self):
        """Waits for the change that follows a loss, and for what it promises."""
        self.wait_for_change()
        eventually(lambda: self.connected, what="the connection")

    def next_desired(self, timeout=DEADLINE):
        return self.desired.get(timeout=timeout)

    def desired_with(self, key, timeout=DEADLINE):
        """The value of `key` in the next patch that has it: after a reconnect the SDK repeats the whole section."""
        while key not in (patch := self.next_desired(timeout)):
            pass
        return patch[key]

    def next_message(self, timeout=DEADLINE):
        return self.messages.get(timeout=timeout)

    def next_method(self, timeout=DEADLINE):
        return self.methods.get(timeout=timeout)


class Sync(Driver):
    """`azure.iot.device`: blocking calls, handlers on threads."""

    @classmethod
    def create(cls, identity, how, **options):
        return cls(build((IoTHubDeviceClient, IoTHubModuleClient), identity, how, **options))

    def _run(self, function, *args):
        outcome = queue.Queue()

        def call():
            try:
                outcome.put((function(*args), None))
            except Exception as error:
                outcome.put((None, error))

        threading.Thread(target=call, daemon=True).start()
        try:
            value, error = outcome.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"{function.__name__} did not return within {DEADLINE} s") from None
        if error is not None:
            raise error
        return value

    def _set(self, name, handler):
        self._run(lambda: setattr(self.client, name, handler))

    def watch_desired(self):
        self._set("on_twin_desired_properties_patch_received", self.desired.put)

    def watch_messages(self):
        self._set("on_message_received", self.messages.put)

    def watch_connection(self):
        self.client.on_connection_state_change = lambda: self.connection_changes.put(self.client.connected)
        self.client.on_background_exception = self.background_errors.put

    def on_method(self, handler=None):
        """Without a handler, requests wait in `methods` for the test to answer."""

        def received(request):
            if handler is None:
                self.methods.put(request)
                return
            status, payload = handler(request)
            self.client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))

        self._set("on_method_request_received", received)


class Aio(Driver):
    """`azure.iot.device.aio`: coroutines on an event loop that lives in a thread of its own."""

    _loop = None

    @classmethod
    def loop(cls):
        if cls._loop is None:
            cls._loop = asyncio.new_event_loop()
            threading.Thread(target=cls._loop.run_forever, daemon=True).start()
        return cls._loop

    @classmethod
    def create(cls, identity, how, **options):
        async def inside():
            return build((AioDeviceClient, AioModuleClient), identity, how, **options)

        return cls(asyncio.run_coroutine_threadsafe(inside(), cls.loop()).result(DEADLINE))

    def _run(self, function, *args):
        future = asyncio.run_coroutine_threadsafe(function(*args), self.loop())
        try:
            return future.result(DEADLINE)
        except TimeoutError:
            raise AssertionError(f"{function.__name__} did not return within {DEADLINE} s") from None

    def _set(self, name, handler):
        setattr(self.client, name, handler)

    def watch_desired(self):
        async def received(patch):
            self.desired.put(patch)

        self._set("on_twin_desired_properties_patch_received", received)

    def watch_messages(self):
        async def received(message):
            self.messages.put(message)

        self._set("on_message_received", received)

    def watch_connection(self):
        async def changed():
            self.connection_changes.put(self.client.connected)

        async def failed(error):
            self.background_errors.put(error)

        self.client.on_connection_state_change = changed
        self.client.on_background_exception = failed

    def on_method(self, handler=None):
        async def received(request):
            if handler is None:
                self.methods.put(request)
                return
            status, payload = handler(request)
            await self.client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))

        self._set("on_method_request_received", received)


class Face:
    """One way to use azure-iot-device: blocking or asyncio, over TCP or WebSocket."""

    def __init__(self, driver, websockets):
        self.driver = driver
        self.websockets = websockets
        self.transport = "MQTT over WebSocket" if websockets else "MQTT"

    def __repr__(self):
        return f"{self.driver.__name__.lower()}-{'ws' if self.websockets else 'tcp'}"


FACES = [Face(driver, websockets) for driver in (Sync, Aio) for websockets in (False, True)]
