"""Names, relations and enums of `iothub_service_client` (revival §1, §3; acceptance test 1)."""

import copy
import importlib
import pickle
import weakref

import pytest

import iothub_service_client as package
from iothub_service_client import iothub_service_client as module

ENUMS = {
    "IoTHubMapResult": "OK ERROR INVALIDARG KEYEXISTS KEYNOTFOUND FILTER_REJECT",
    "IoTHubMessageResult": "OK INVALID_ARG INVALID_TYPE ERROR",
    "IoTHubMessageDispositionResult": "ACCEPTED REJECTED ABANDONED",
    "IoTHubMessageContent": "BYTEARRAY STRING UNKNOWN",
    "IoTHubRegistryManagerResult": "OK INVALID_ARG ERROR JSON_ERROR HTTPAPI_ERROR HTTP_STATUS_ERROR DEVICE_EXIST "
    "DEVICE_NOT_EXIST CALLBACK_NOT_SET",
    "IoTHubRegistryManagerAuthMethod": "SHARED_PRIVATE_KEY X509_THUMBPRINT X509_CERTIFICATE_AUTHORITY",
    "IoTHubMessagingResult": "OK INVALID_ARG ERROR INVALID_JSON DEVICE_EXIST CALLBACK_NOT_SET",
    "IoTHubDeviceConnectionState": "CONNECTED DISCONNECTED",
    "IoTHubDeviceStatus": "ENABLED DISABLED",
    "IoTHubFeedbackStatusCode": "SUCCESS EXPIRED DELIVER_COUNT_EXCEEDED REJECTED UNKNOWN",
    "IoTHubDeviceMethodResult": "OK INVALID_ARG ERROR HTTPAPI_ERROR",
    "IoTHubDeviceTwinResult": "OK INVALID_ARG ERROR HTTPAPI_ERROR",
}
ERRORS = [
    "IoTHubMapError",
    "IoTHubMessageError",
    "IoTHubServiceClientAuthError",
    "IoTHubRegistryManagerError",
    "IoTHubMessagingError",
    "IoTHubDeviceMethodError",
    "IoTHubDeviceTwinError",
    "IoTHubDeviceConfigurationError",
]
MADE_BY_PROGRAMS = [
    "IoTHubRegistryManager",
    "IoTHubMessaging",
    "IoTHubDeviceMethod",
    "IoTHubDeviceTwin",
    "IoTHubDeviceConfigurationManager",
    "IoTHubServiceClientAuth",
    "IoTHubDeviceCapabilities",
    "IoTHubDeviceConfiguration",
    "IoTHubDeviceConfigurationContent",
    "IoTHubMap",
    "IoTHubMessage",
]
MADE_BY_THE_LIBRARY = [
    "IoTHubDevice",
    "IoTHubModule",
    "IoTHubRegistryStatistics",
    "IoTHubDeviceMethodResponse",
    "IoTHubServiceFeedbackBatch",
    "IoTHubServiceFeedbackRecord",
]
MEMBERS = [(enum, name, number) for enum, names in ENUMS.items() for number, name in enumerate(names.split())]


def test_both_levels_have_the_same_names_and_no_others():
    expected = {*ENUMS, "IoTHubError", *ERRORS, *(name + "Arg" for name in ERRORS)}
    expected |= {*MADE_BY_PROGRAMS, *MADE_BY_THE_LIBRARY}
    for level in (package, module):
        public = {name for name in vars(level) if not name.startswith("_")} - {"iothub_service_client"}
        if level is module:
            public &= set(module.__all__)
        assert public == expected
        for name in expected:
            assert getattr(level, name) is getattr(module, name)
    star = {}
    exec("from iothub_service_client import *", star)
    assert star["iothub_service_client"].__version__ == "1.4.6"
    assert package.__version__ == module.__version__ == "1.4.6" and package.__doc__ and module.__doc__


def test_relations_of_exceptions():
    assert module.IoTHubError.__mro__[1] is Exception
    for name in ERRORS:
        error, arg = getattr(module, name), getattr(module, name + "Arg")
        assert error.__bases__ == (module.IoTHubError,)
        assert not issubclass(arg, BaseException)
        assert error.__module__ == arg.__module__ == "iothub_service_client.iothub_service_client"
        with pytest.raises(module.IoTHubError):
            raise error()
    device_side = importlib.import_module("iothub_client")
    if hasattr(device_side, "IoTHubError"):
        assert device_side.IoTHubError is not module.IoTHubError
        assert device_side.IoTHubMessageResult is not module.IoTHubMessageResult


@pytest.mark.parametrize("enum_name, name, number", MEMBERS)
def test_members_of_enums(enum_name, name, number):
    enum = getattr(module, enum_name)
    member = getattr(enum, name)
    assert isinstance(member, enum) and issubclass(enum, int)
    assert str(member) == "%s" % member == f"{member}" == "{0}".format(member) == member.name == name
    assert "%d" % member == str(number) and int(member) == number == member
    assert repr(member) == f"iothub_service_client.iothub_service_client.{enum_name}.{name}"
    assert enum.names[name] is enum.values[number] is member is enum(number)
    assert member.names is enum.names and member.values is enum.values
    assert member != name and hash(member) == hash(number)


@pytest.mark.parametrize("enum_name", ENUMS)
def test_enums_beyond_their_members(enum_name):
    enum = getattr(module, enum_name)
    names = ENUMS[enum_name].split()
    assert list(enum.names) == names and list(enum.values) == list(range(len(names)))
    assert enum() == 0 and enum() is enum.values[0]
    unnamed = enum(99)
    assert str(unnamed) == "99" and unnamed == 99 and isinstance(unnamed, enum)
    with pytest.raises(AttributeError):
        unnamed.name
    assert copy.copy(enum.values[0]) is enum.values[0]


def test_objects_are_as_free_as_they_were():
    message = module.IoTHubMessage("text")
    message.ContentType = "application/json"
    assert message.ContentType == "application/json" and weakref.ref(message)() is message

    class Own(module.IoTHubMessage):
        pass

    assert Own("x").get_string() == "x"
    for refused in (pickle.dumps, copy.copy):
        with pytest.raises(RuntimeError):
            refused(message)


@pytest.mark.parametrize("name", MADE_BY_THE_LIBRARY)
def test_some_classes_are_made_by_the_library_alone(name):
    with pytest.raises(RuntimeError, match="This class cannot be instantiated from Python"):
        getattr(module, name)()


def test_arguments_of_exceptions():
    arg = module.IoTHubDeviceTwinErrorArg("GetModuleTwin", module.IoTHubDeviceTwinResult.ERROR)
    text = "IoTHubTwin.get_module_twin, IoTHubDeviceTwinResult.ERROR"
    assert str(arg) == text and repr(arg) == f"IoTHubDeviceTwinError({text})"
    assert arg.result is module.IoTHubDeviceTwinResult.ERROR and arg.func == "GetModuleTwin"
    assert arg.http_status is None
    with pytest.raises(AttributeError):
        arg.result = 1
    error = module.IoTHubDeviceTwinError(arg)
    assert str(error) == text and error.args == (arg,) and not hasattr(error, "result")
    with pytest.raises(TypeError, match="not all arguments converted"):
        "Unexpected error {0}" % error
    invalid = module.IoTHubMessagingErrorArg("SendAsync", module.IoTHubMessagingResult.INVALID_JSON)
    assert str(invalid) == "IoTHubMessaging.send_async, IoTHubMessagingResult.INVALID_ERROR"
    auth = module.IoTHubServiceClientAuthErrorArg("IoTHubServiceClientAuth")
    assert not hasattr(auth, "result")
    with pytest.raises(TypeError):
        module.IoTHubDeviceConfigurationErrorArg("GetConfiguration", "ERROR").result
