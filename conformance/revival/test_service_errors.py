"""What goes wrong and how it is told (revival §1.2, §1.4, §4; acceptance test 2)."""

import socket

import pytest

from iothub_service_client import (
    IoTHubDeviceConfigurationManager,
    IoTHubDeviceMethod,
    IoTHubDeviceTwin,
    IoTHubError,
    IoTHubMap,
    IoTHubMapError,
    IoTHubMapResult,
    IoTHubMessage,
    IoTHubMessageError,
    IoTHubMessaging,
    IoTHubRegistryManager,
    IoTHubRegistryManagerAuthMethod,
    IoTHubRegistryManagerError,
    IoTHubRegistryManagerResult,
    IoTHubServiceClientAuth,
    IoTHubServiceClientAuthError,
)

CLIENTS = [
    (IoTHubRegistryManager, "IoTHubRegistryManager.IoTHubRegistryManager, IoTHubRegistryManagerResult.ERROR"),
    (IoTHubDeviceTwin, "IoTHubTwin.IoTHubDeviceTwin, IoTHubDeviceTwinResult.ERROR"),
    (IoTHubDeviceMethod, "IoTHubDeviceMethod.IoTHubDeviceMethod, IoTHubDeviceMethodResult.ERROR"),
    (IoTHubMessaging, "IoTHubMessaging.IoTHubMessaging, IoTHubMessagingResult.ERROR"),
    (IoTHubDeviceConfigurationManager, None),
    (
        IoTHubServiceClientAuth,
        "IoTHubServiceClientAuth.IoTHubServiceClientAuth, IoTHubServiceClientAuthError: "
        "Service Client Authentication Handle is NULL.",
    ),
]
KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
MALFORMED = [
    "",
    "[IoTHub Connection String]",
    "HostName=hub.example.net",
    f"HostName=hub.example.net;SharedAccessKey={KEY}",
    f"SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}",
    f"HostName=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY};Colour=red",
    "HostName=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey=not base64!",
    f"hostname=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}",
]


def refusal(kind, operation, *args):
    with pytest.raises(kind) as caught:
        operation(*args)
    assert len(caught.value.args) == 1 and isinstance(caught.value, IoTHubError)
    assert repr(caught.value.args[0]) == f"{type(caught.value).__name__}({caught.value})"
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize("connection_string", MALFORMED)
@pytest.mark.parametrize("client, expected", CLIENTS, ids=lambda value: getattr(value, "__name__", "text"))
def test_a_malformed_connection_string_is_refused_by_each_class_in_its_own_words(client, expected, connection_string):
    caught = refusal(IoTHubError, client, connection_string)
    assert type(caught).__name__.startswith(client.__name__.replace("Manager", ""))
    assert expected is None or str(caught) == expected
    assert KEY not in repr(caught)


def test_a_device_may_be_named_instead_of_a_policy_by_the_registry_alone():
    connection_string = f"HostName=hub.example.net;DeviceId=d;SharedAccessKey={KEY}"
    assert IoTHubRegistryManager(connection_string)
    assert IoTHubServiceClientAuth(connection_string)
    refusal(IoTHubError, IoTHubDeviceTwin, connection_string)


def test_registry(hub, device):
    registry = IoTHubRegistryManager(hub.connection_string)
    sas = IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY
    known, unknown = device.device_id, device.device_id + "-unknown"

    def check(expected, status, operation, *args):
        caught = refusal(IoTHubRegistryManagerError, operation, *args)
        function = operation.__name__
        assert str(caught) == f"IoTHubRegistryManager.{function}, IoTHubRegistryManagerResult.{expected}"
        assert caught.args[0].result is IoTHubRegistryManagerResult.names[expected]
        assert caught.args[0].http_status == status

    check("DEVICE_EXIST", 409, registry.create_device, known, "", "", sas)
    check("DEVICE_NOT_EXIST", 404, registry.get_device, unknown)
    check("HTTP_STATUS_ERROR", 404, registry.delete_device, unknown)
    check("DEVICE_NOT_EXIST", 404, registry.get_module, known, "nothing")
    check("DEVICE_NOT_EXIST", 404, registry.get_module_list, unknown)
    check("HTTP_STATUS_ERROR", 400, registry.create_device, unknown, "no base64", "", sas)
    check("HTTP_STATUS_ERROR", None, registry.get_device, "a/b")
    for blank in ("", " ", "a b", "a\tb"):
        check("INVALID_ARG", None, registry.get_device, blank)
        check("INVALID_ARG", None, registry.get_module, known, blank)
    for count in (0, -1, 1001):
        check("INVALID_ARG", None, registry.get_device_list, count)
    unnamed = IoTHubRegistryManagerAuthMethod(9)
    check("INVALID_ARG", None, registry.create_device, unknown, "", "", unnamed)
    registry.create_module(known, "", "", "m", sas)
    check("DEVICE_EXIST", 409, registry.create_module, known, "", "", "m", sas)


def test_a_wrong_key(hub):
    wrong = hub.connection_string.rsplit("SharedAccessKey=", 1)[0] + f"SharedAccessKey={KEY}"
    caught = refusal(IoTHubRegistryManagerError, IoTHubRegistryManager(wrong).get_device, "d")
    assert str(caught) == "IoTHubRegistryManager.get_device, IoTHubRegistryManagerResult.HTTP_STATUS_ERROR"
    assert caught.args[0].http_status == 401
    caught = refusal(IoTHubError, IoTHubDeviceTwin(wrong).get_twin, "d")
    assert str(caught) == "IoTHubTwin.get_twin, IoTHubDeviceTwinResult.ERROR"
    caught = refusal(IoTHubError, IoTHubDeviceMethod(wrong).invoke, "d", "m", "{}", 10)
    assert str(caught) == "IoTHubDeviceMethod.invoke, IoTHubDeviceMethodResult.ERROR"


def nobody():
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"HostName=127.0.0.1:{probe.getsockname()[1]};SharedAccessKeyName=p;SharedAccessKey={KEY}"


@pytest.mark.parametrize("host", [None, "nowhere.invalid"])
def test_a_hub_that_cannot_be_reached(host):
    connection_string = nobody() if host is None else f"HostName={host};SharedAccessKeyName=p;SharedAccessKey={KEY}"
    caught = refusal(IoTHubRegistryManagerError, IoTHubRegistryManager(connection_string).get_statistics)
    assert str(caught) == "IoTHubRegistryManager.get_statistics, IoTHubRegistryManagerResult.HTTPAPI_ERROR"
    assert caught.args[0].http_status is None and KEY not in caught.args[0].reason
    caught = refusal(IoTHubError, IoTHubDeviceTwin(connection_string).get_twin, "d")
    assert str(caught) == "IoTHubTwin.get_twin, IoTHubDeviceTwinResult.ERROR"


def test_a_hub_that_is_not_trusted(hub, program):
    code = f"""if True:
        from iothub_service_client import *
        try:
            IoTHubRegistryManager({hub.connection_string!r}).get_statistics()
        except IoTHubRegistryManagerError as error:
            print(error, error.args[0].reason)
    """
    code_of_exit, out, err = program(code=code, OSTLER_CA_FILE="").finish()
    assert (code_of_exit, err) == (0, "") and "HTTPAPI_ERROR" in out and "certificate" in out
    code_of_exit, out, err = program(code=code, OSTLER_CA_FILE="/nowhere/ca.pem").finish()
    assert code_of_exit == 0 and "RuntimeWarning: OSTLER_CA_FILE (/nowhere/ca.pem)" in err


def test_twins_and_methods(hub, device):
    twins, methods = IoTHubDeviceTwin(hub.connection_string), IoTHubDeviceMethod(hub.connection_string)
    unknown = device.device_id + "-unknown"
    for expected, operation, args in [
        ("IoTHubTwin.get_twin, IoTHubDeviceTwinResult.ERROR", twins.get_twin, (unknown,)),
        ("IoTHubTwin.get_module_twin, IoTHubDeviceTwinResult.ERROR", twins.get_twin, (device.device_id, "m")),
        ("IoTHubTwin.update_twin, IoTHubDeviceTwinResult.ERROR", twins.update_twin, (unknown, "{}")),
        ("IoTHubTwin.update_twin, IoTHubDeviceTwinResult.ERROR", twins.update_twin, (device.device_id, "no json")),
        ("IoTHubTwin.update_module_twin, IoTHubDeviceTwinResult.ERROR", twins.update_twin, (unknown, "m", "{}")),
        ("IoTHubDeviceMethod.invoke, IoTHubDeviceMethodResult.ERROR", methods.invoke, (unknown, "m", "{}", 5)),
        # Offline, which is told at once.
        ("IoTHubDeviceMethod.invoke, IoTHubDeviceMethodResult.ERROR", methods.invoke, (device.device_id, "m", "{}", 60)),
        # An empty payload makes a request that is no JSON.
        ("IoTHubDeviceMethod.invoke, IoTHubDeviceMethodResult.ERROR", methods.invoke, (device.device_id, "m", "", 60)),
        (
            "IoTHubDeviceMethod.invoke_module, IoTHubDeviceMethodResult.ERROR",
            methods.invoke,
            (unknown, "mod", "m", "{}", 5),
        ),
    ]:
        assert str(refusal(IoTHubError, operation, *args)) == expected
    assert refusal(IoTHubError, methods.invoke, device.device_id, "m", "", 60).args[0].http_status == 400


REGISTRY = f"HostName=hub.example.net;SharedAccessKeyName=p;SharedAccessKey={KEY}"


def test_arguments_of_the_wrong_type_are_type_errors():
    registry = IoTHubRegistryManager(REGISTRY)
    twins, methods, messaging = IoTHubDeviceTwin(REGISTRY), IoTHubDeviceMethod(REGISTRY), IoTHubMessaging(REGISTRY)
    sas = IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY
    for wrong in [
        lambda: IoTHubRegistryManager(),
        lambda: IoTHubRegistryManager(None),
        lambda: IoTHubRegistryManager(5),
        lambda: IoTHubRegistryManager(REGISTRY, 1),
        lambda: registry.get_device(),
        lambda: registry.get_device(None),
        lambda: registry.get_device(7),
        lambda: registry.get_device(bytearray(b"d")),
        lambda: registry.get_device(device_id="d"),
        lambda: registry.get_device_list("10"),
        lambda: registry.get_device_list(10.0),
        lambda: registry.create_device("d", "", "", 0),
        lambda: registry.create_device("d", "", "", "SHARED_PRIVATE_KEY"),
        lambda: registry.create_device("d", 1, "", sas),
        lambda: registry.create_device("d", "", "", sas, True),
        lambda: registry.update_device("d", "", "", sas, sas),
        lambda: twins.get_twin("d", None),
        lambda: twins.update_twin("d"),
        lambda: twins.update_twin("d", {"tags": {}}),
        lambda: methods.invoke("d", "m", "{}"),
        lambda: methods.invoke("d", "m", None, 10),
        lambda: methods.invoke("d", "m", "{}", "10"),
        lambda: methods.invoke("d", "m", "{}", 10.0),
        lambda: messaging.open(None, 0),
        lambda: messaging.open(print),
        lambda: messaging.send_async("d", b"text", print, 0),
        lambda: messaging.send_async("d", None, print, 0),
        lambda: messaging.send_async("d", IoTHubMessage("x"), 5, 0),
        lambda: messaging.set_feedback_message_callback("f", 0),
        lambda: IoTHubMessage(),
        lambda: IoTHubMessage(5),
        lambda: IoTHubMessage(None),
        lambda: IoTHubMap(5),
        lambda: IoTHubMap().add("k", 5),
        lambda: IoTHubMap().add("k"),
    ]:
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="open expected type callable"):
        messaging.open(None, 0)
    with pytest.raises(TypeError, match="Python argument types in\n +IoTHubDeviceTwin.get_twin"):
        twins.get_twin()


def test_numbers_and_text_that_are_taken():
    registry = IoTHubRegistryManager(REGISTRY.encode())
    # True is 1 and an enum's value is its number; what follows is the range check, not a TypeError.
    with pytest.raises(IoTHubRegistryManagerError):
        registry.get_device_list(False)
    with pytest.raises(IoTHubRegistryManagerError):
        registry.get_device_list(IoTHubRegistryManagerResult.OK)


def test_attributes_of_results_are_read_only(hub, device):
    found = IoTHubRegistryManager(hub.connection_string).get_device(device.device_id)
    with pytest.raises(AttributeError):
        found.deviceId = "other"
    found.colour = "red"


def test_messages():
    message = IoTHubMessage("text")
    caught = refusal(IoTHubMessageError, message.get_bytearray)
    assert str(caught) == "IoTHubMessage.get_bytearray, IoTHubMessageResult.INVALID_ARG"
    assert message.get_string() == "text" and str(message.get_content_type()) == "STRING"
    raw = IoTHubMessage(bytearray(b"a\0b"))
    assert raw.get_string() is None and raw.get_bytearray() == bytearray(b"a\0b")
    assert str(raw.get_content_type()) == "BYTEARRAY"
    assert IoTHubMessage("a\0b").get_string() == "a" and IoTHubMessage(b"a\0b").get_string() == "a\0b"
    with pytest.raises(TypeError):
        message.message_id = 5
    message.message_id, message.correlation_id = "m", b"c"
    assert (message.message_id, message.correlation_id) == ("m", "c")
    message.message_id = None
    assert message.message_id is None
    properties = message.properties()
    properties.add("k", "v")
    assert message.properties().get_internals() == {"k": "v"}
    for key, value in (("ö", "v"), ("k2", "a\nb")):
        caught = refusal(IoTHubMapError, properties.add, key, value)
        assert str(caught) == "IoTHubMap.add, IoTHubMapResult.FILTER_REJECT"


def test_maps():
    seen = IoTHubMap(lambda key, value: IoTHubMapResult.FILTER_REJECT if key == "no" else IoTHubMapResult.OK)
    seen.add("a", "1")
    seen.add_or_update("b", "2")
    seen.add_or_update("a", "3")
    assert list(seen.get_internals().items()) == [("a", "3"), ("b", "2")]
    assert seen.contains_key("a") and not seen.contains_key("z")
    assert seen.contains_value("2") and not seen.contains_value("1")
    seen.get_internals()["a"] = "changed"
    assert seen.get_value_from_key("a") == "3"
    for expected, operation, args in [
        ("add, IoTHubMapResult.KEYEXISTS", seen.add, ("a", "4")),
        ("add, IoTHubMapResult.FILTER_REJECT", seen.add, ("no", "4")),
        ("add_or_update, IoTHubMapResult.FILTER_REJECT", seen.add_or_update, ("no", "4")),
        ("delete, IoTHubMapResult.KEYNOTFOUND", seen.delete, ("z",)),
        ("get_value_from_key, IoTHubMapResult.KEYNOTFOUND", seen.get_value_from_key, ("z",)),
    ]:
        assert str(refusal(IoTHubMapError, operation, *args)) == f"IoTHubMap.{expected}"
    seen.delete("a")
    assert seen.get_internals() == {"b": "2"}
    with pytest.raises(TypeError):
        len(seen)
