"""Names, enums, errors and argument checks of `iothub_client` (revival §8.1, §8.2): nothing here needs a hub."""

import inspect
import weakref

import iothub_client
import iothub_client.iothub_client as doubled
import pytest

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CONNECTION_STRING = "HostName=hub.invalid;DeviceId=pump-7;SharedAccessKey=" + KEY
MQTT = doubled.IoTHubTransportProvider.MQTT

ENUMS = {
    "IoTHubTransportProvider": "HTTP AMQP MQTT AMQP_WS MQTT_WS",
    "IoTHubSecurityType": "UNKNOWN SAS X509",
    "IoTHubClientStatus": "IDLE BUSY",
    "IoTHubClientResult": "OK INVALID_ARG ERROR INVALID_SIZE INDEFINITE_TIME",
    "IoTHubClientFileUploadResult": "OK ERROR",
    "IoTHubClientConfirmationResult": "OK BECAUSE_DESTROY MESSAGE_TIMEOUT ERROR",
    "IoTHubMessageDispositionResult": "ACCEPTED REJECTED ABANDONED",
    "IoTHubMessageContent": "BYTEARRAY STRING UNKNOWN",
    "IoTHubMessageResult": "OK INVALID_ARG INVALID_TYPE ERROR",
    "IoTHubMapResult": "OK ERROR INVALIDARG KEYEXISTS KEYNOTFOUND FILTER_REJECT",
    "IoTHubTwinUpdateState": "COMPLETE PARTIAL",
    "IoTHubConnectionStatus": "AUTHENTICATED UNAUTHENTICATED",
    "IoTHubClientConnectionStatusReason": (
        "EXPIRED_SAS_TOKEN DEVICE_DISABLED BAD_CREDENTIAL RETRY_EXPIRED NO_NETWORK COMMUNICATION_ERROR CONNECTION_OK"
    ),
    "IoTHubClientRetryPolicy": (
        "RETRY_NONE RETRY_IMMEDIATE RETRY_INTERVAL RETRY_LINEAR_BACKOFF RETRY_EXPONENTIAL_BACKOFF "
        "RETRY_EXPONENTIAL_BACKOFF_WITH_JITTER RETRY_RANDOM"
    ),
}
CLASSES = """
    IoTHubClient IoTHubDeviceClient IoTHubModuleClient IoTHubTransport IoTHubConfig HttpProxyOptions
    DeviceMethodReturnValue IoTHubMethodResponse GetRetryPolicyReturnValue IoTHubMessageDiagnosticPropertyData
    IoTHubMessage IoTHubMap
""".split()
ERRORS = ["IoTHubError", "IoTHubMapError", "IoTHubMessageError", "IoTHubClientError"]
ARGS = [name + "Arg" for name in ERRORS[1:]]
MEMBERS = """
    protocol send_event_async set_message_callback set_connection_status_callback set_device_twin_callback
    set_device_method_callback set_retry_policy get_retry_policy send_reported_state device_method_response set_option
    get_send_status get_last_message_receive_time upload_blob_async
""".split()
MODULE_MEMBERS = """
    protocol send_event_async set_message_callback set_connection_status_callback set_module_twin_callback
    set_module_method_callback invoke_method_async create_from_environment set_retry_policy get_retry_policy
    send_reported_state set_option get_send_status get_last_message_receive_time
""".split()


def client():
    return doubled.IoTHubClient(CONNECTION_STRING, MQTT)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", [*CLASSES, *ERRORS, *ARGS, *ENUMS])
def test_names_are_there_at_both_levels(name):
    assert getattr(iothub_client, name) is getattr(doubled, name)
    assert inspect.isclass(getattr(doubled, name))


def test_a_star_import_brings_the_names_and_the_submodule():
    scope = {}
    exec("from iothub_client import *", scope)
    assert set(CLASSES + ERRORS + ARGS + list(ENUMS)) <= set(scope)
    assert scope["iothub_client"].__version__ == "1.4.6"


def test_version_and_doc_are_at_both_levels():
    for module in (iothub_client, doubled):
        assert module.__version__ == "1.4.6"
        assert module.__doc__


@pytest.mark.parametrize("name", [name for name in dir(doubled) if not name.startswith("_")])
def test_there_is_nothing_but_classes(name):
    assert inspect.isclass(getattr(doubled, name))


def test_members_of_the_clients():
    for name in [*MEMBERS, "set_device_method_callback_ex"]:
        assert hasattr(doubled.IoTHubClient, name)
    for name in MEMBERS:
        assert hasattr(doubled.IoTHubDeviceClient, name)
    assert not hasattr(doubled.IoTHubDeviceClient, "set_device_method_callback_ex")
    for name in MODULE_MEMBERS:
        assert hasattr(doubled.IoTHubModuleClient, name)
    assert not hasattr(doubled.IoTHubModuleClient, "upload_blob_async")
    for name in ("connect", "close", "do_work", "destroy"):
        assert not hasattr(doubled.IoTHubClient, name)


# ---------------------------------------------------------------- enums


@pytest.mark.parametrize("name", ENUMS)
def test_enums_are_ints_that_print_their_names(name):
    enum = getattr(doubled, name)
    assert issubclass(enum, int)
    for number, member in enumerate(ENUMS[name].split()):
        value = getattr(enum, member)
        assert isinstance(value, enum)
        assert value == number and int(value) == number and "%d" % value == str(number)
        assert [str(value), "%s" % value, f"{value}", "{0}".format(value), value.name] == [member] * 5
        assert repr(value) == f"iothub_client.iothub_client.{name}.{member}"
        assert enum(number) is value and enum.names[member] is value and enum.values[number] is value
        assert value != member
    assert enum() is enum.values[0]
    assert len(enum.names) == len(enum.values) == len(ENUMS[name].split())


def test_a_number_without_a_name_prints_as_the_number():
    unnamed = doubled.IoTHubTransportProvider(77)
    assert str(unnamed) == "77" and unnamed == 77


# ---------------------------------------------------------------- errors


def test_exceptions_form_a_tree_with_companions():
    for name in ERRORS[1:]:
        error, companion = getattr(doubled, name), getattr(doubled, name + "Arg")
        assert issubclass(error, doubled.IoTHubError) and not issubclass(companion, Exception)
    assert doubled.IoTHubError.__mro__[1] is Exception


def test_text_of_an_argument():
    arg = doubled.IoTHubClientErrorArg("send_event_async", doubled.IoTHubClientResult.ERROR)
    assert str(arg) == "IoTHubClient.send_event_async, IoTHubClientResult.ERROR"
    assert repr(arg) == f"IoTHubClientError({arg})"
    assert (arg.func, arg.result) == ("send_event_async", doubled.IoTHubClientResult.ERROR)
    with pytest.raises(AttributeError):
        arg.result = 1
    assert str(doubled.IoTHubClientError(arg)) == str(arg)
    assert doubled.IoTHubClientError().args == ()
    with pytest.raises(TypeError, match="not all arguments converted"):
        "Unexpected error" % doubled.IoTHubClientError(arg)


MALFORMED = [
    "",
    "[device connection string]",
    "HostName=hub.invalid;DeviceId=pump-7",
    f"DeviceId=pump-7;SharedAccessKey={KEY}",
    f"HostName=hub.invalid;SharedAccessKey={KEY}",
    f"hostname=hub.invalid;DeviceId=pump-7;SharedAccessKey={KEY}",
    f"HostName=hub.invalid; DeviceId=pump-7;SharedAccessKey={KEY}",
    f"HostName=hub.invalid ;DeviceId=pump-7;SharedAccessKey={KEY}",
    f"HostName=hub.invalid;DeviceId=pump-7;SharedAccessKey={KEY};x509=true",
    f"HostName=hub.invalid;HostName=hub.invalid;DeviceId=pump-7;SharedAccessKey={KEY}",
    "HostName=hub.invalid;DeviceId=pump-7;x509=maybe",
    "HostName=hub.invalid;DeviceId=pump-7;SharedAccessSignature=nonsense",
    "HostName=hub.invalid;DeviceId=pump-7;UseProvisioning=true",
]


@pytest.mark.parametrize("text", MALFORMED)
@pytest.mark.parametrize("name", ["IoTHubClient", "IoTHubDeviceClient", "IoTHubModuleClient"])
def test_a_malformed_connection_string_is_refused_by_the_constructor(name, text):
    with pytest.raises(doubled.IoTHubClientError) as refused:
        getattr(doubled, name)(text, MQTT)
    assert str(refused.value) == "IoTHubClient.IoTHubClient, IoTHubClientResult.ERROR"
    assert refused.value.args[0].result is doubled.IoTHubClientResult.ERROR
    assert len(refused.value.args) == 1
    assert KEY not in repr(refused.value.__cause__)


@pytest.mark.parametrize(
    "text",
    [
        f"HostName=127.0.0.1:8443;DeviceId=d;SharedAccessKey={KEY}",
        f"HostName=localhost;DeviceId=d;ModuleId=m;SharedAccessKey={KEY}",
        f"SharedAccessKey={KEY};DeviceId=d;HostName=hub.invalid;GatewayHostName=edge.invalid;",
        "HostName=hub.invalid;DeviceId=d;x509=true",
        "HostName=hub.invalid;DeviceId=d;SharedAccessKey=not base64 at all",
    ],
)
def test_what_may_be_connected_with_is_accepted(text):
    assert doubled.IoTHubClient(text, MQTT).protocol is MQTT


def test_other_constructors():
    transport = doubled.IoTHubTransport(doubled.IoTHubTransportProvider.AMQP, "hub", "invalid")
    config = doubled.IoTHubConfig(doubled.IoTHubTransportProvider.AMQP, "d", KEY, "", "hub", "invalid", "")
    assert doubled.IoTHubClient(transport, config).protocol is doubled.IoTHubTransportProvider.AMQP
    x509 = doubled.IoTHubSecurityType.X509
    assert doubled.IoTHubClient("hub.invalid", "d", x509, MQTT).protocol is MQTT
    with pytest.raises(doubled.IoTHubClientError, match="IoTHubClient.IoTHubClient, IoTHubClientResult.ERROR"):
        doubled.IoTHubClient("hub.invalid", "d", doubled.IoTHubSecurityType.SAS, MQTT)


def test_texts_of_errors():
    device = client()
    expected = [
        (lambda: device.get_last_message_receive_time(), "get_last_message_receive_time", "INDEFINITE_TIME"),
        (lambda: device.send_reported_state("{}", 0, print, 0), "send_reported_state", "INVALID_ARG"),
        (lambda: device.device_method_response(7, "{}", 2, 200), "device_method_response", "ERROR"),
    ]
    for call, function, result in expected:
        with pytest.raises(doubled.IoTHubClientError) as refused:
            call()
        assert str(refused.value) == f"IoTHubClient.{function}, IoTHubClientResult.{result}"


def test_http_refuses_twins_and_methods():
    device = doubled.IoTHubClient(CONNECTION_STRING, doubled.IoTHubTransportProvider.HTTP)
    for call, function in [
        (lambda: device.set_device_twin_callback(print, 0), "set_twin_callback"),
        (lambda: device.set_device_method_callback(print, 0), "set_method_callback"),
        (lambda: device.send_reported_state("{}", 2, print, 0), "send_reported_state"),
    ]:
        with pytest.raises(doubled.IoTHubClientError) as refused:
            call()
        assert str(refused.value) == f"IoTHubClient.{function}, IoTHubClientResult.ERROR"


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "arguments",
    [(), (CONNECTION_STRING,), (CONNECTION_STRING, 2), (None, MQTT), (3, MQTT), (CONNECTION_STRING, MQTT, 0)],
)
def test_wrong_arguments_of_the_constructor_are_type_errors(arguments):
    with pytest.raises(TypeError):
        doubled.IoTHubClient(*arguments)


def test_wrong_arguments_are_type_errors():
    device, message = client(), doubled.IoTHubMessage("x")
    wrong = [
        lambda: device.send_event_async("text", print, 0),
        lambda: device.send_event_async(message, print),
        lambda: device.send_event_async(message=message, callback=print, context=0),
        lambda: device.set_retry_policy(1, 10),
        lambda: device.set_retry_policy(doubled.IoTHubClientRetryPolicy.RETRY_NONE, 1.5),
        lambda: device.set_option("messageTimeout", 1.5),
        lambda: device.set_option("messageTimeout", None),
        lambda: device.set_option(5, 5),
        lambda: doubled.IoTHubClientErrorArg("function", 2),
        lambda: doubled.IoTHubClientErrorArg(2, doubled.IoTHubClientResult.ERROR),
        lambda: doubled.IoTHubMessageErrorArg("function"),
        lambda: device.send_reported_state(None, 2, print, 0),
        lambda: doubled.IoTHubMessage(7),
        lambda: doubled.IoTHubMessage(None),
        lambda: doubled.IoTHubMap().add("x", 5),
        lambda: doubled.IoTHubMap("no function"),
        lambda: setattr(message, "message_id", 5),
        lambda: setattr(doubled.DeviceMethodReturnValue(), "status", "200"),
        lambda: setattr(doubled.DeviceMethodReturnValue(), "response", {}),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize(
    "name, call",
    [
        ("send_event_async", lambda c: c.send_event_async(doubled.IoTHubMessage("x"), None, 0)),
        ("set_message_callback", lambda c: c.set_message_callback(None, 0)),
        ("set_connection_status_callback", lambda c: c.set_connection_status_callback(None, 0)),
        ("set_device_twin_callback", lambda c: c.set_device_twin_callback(None, 0)),
        ("set_device_method_callback", lambda c: c.set_device_method_callback(None, 0)),
        ("send_reported_state", lambda c: c.send_reported_state("{}", 2, None, 0)),
        ("upload_to_blob", lambda c: c.upload_blob_async("name", "content", 7, None, 0)),
    ],
)
def test_what_cannot_be_called_is_a_type_error_with_its_text(name, call):
    with pytest.raises(TypeError, match=f"^{name} expected type callable$"):
        call(client())


@pytest.mark.parametrize("name", ["GetRetryPolicyReturnValue", "IoTHubMethodResponse"])
def test_classes_without_a_constructor(name):
    with pytest.raises(RuntimeError, match="^This class cannot be instantiated from Python$"):
        getattr(doubled, name)()


def test_instances_take_attributes_and_weak_references_and_are_subclassed():
    class Own(doubled.IoTHubClient):
        def __init__(self, text):
            super().__init__(text, MQTT)

    for instance in (doubled.IoTHubMessage("x"), doubled.IoTHubMap(), Own(CONNECTION_STRING)):
        instance.ContentType = "anything"
        assert instance.ContentType == "anything" and weakref.ref(instance)() is instance
    with pytest.raises(AttributeError):
        client().protocol = MQTT


# ---------------------------------------------------------------- messages and maps


def test_messages_keep_how_they_were_made():
    content = doubled.IoTHubMessageContent
    of_bytes, of_text = doubled.IoTHubMessage(bytearray("grün", "utf8")), doubled.IoTHubMessage("grün")
    assert of_bytes.get_content_type() is content.BYTEARRAY and of_text.get_content_type() is content.STRING
    assert of_bytes.get_bytearray()[:5].decode("utf-8") == "grün" and of_bytes.get_string() is None
    assert of_text.get_string() == "grün" and doubled.IoTHubMessage(b"x").get_string() == "x"
    with pytest.raises(doubled.IoTHubMessageError) as refused:
        of_text.get_bytearray()
    assert str(refused.value) == "IoTHubMessage.get_bytearray, IoTHubMessageResult.INVALID_ARG"
    assert doubled.IoTHubMessage(bytearray(b"a\0b")).get_bytearray() == b"a\0b"


def test_system_properties_of_messages():
    message = doubled.IoTHubMessage("x")
    assert message.message_id is None and message.correlation_id is None
    message.message_id, message.correlation_id = "message_1", "correlation_1"
    assert message.set_content_type_system_property("application/json") is doubled.IoTHubMessageResult.OK
    assert message.set_content_encoding_system_property("utf-8") is doubled.IoTHubMessageResult.OK
    assert message.get_content_type_system_property() == "application/json"
    assert message.get_content_encoding_system_property() == "utf-8"
    data = doubled.IoTHubMessageDiagnosticPropertyData("abcd1234", "1506054516.100")
    message.set_diagnostic_property_data(data)
    assert message.get_diagnostic_property_data().get_diagnostic_id() == "abcd1234"
    assert message.properties().get_internals() == {}
    assert message.input_name is message.output_name is message.connection_device_id is None
    with pytest.raises(AttributeError):
        message.input_name = "x"


def test_properties_are_live_and_printable():
    message = doubled.IoTHubMessage("x")
    properties = message.properties()
    properties.add("temperatureAlert", "true")
    assert message.properties().get_internals() == {"temperatureAlert": "true"}
    for key, value in [("ü", "x"), ("x", "\n")]:
        with pytest.raises(doubled.IoTHubMapError, match="IoTHubMap.add, IoTHubMapResult.FILTER_REJECT"):
            properties.add(key, value)


def test_maps():
    entries = doubled.IoTHubMap()
    entries.add("b", "1")
    entries.add("a", "2")
    assert list(entries.get_internals().items()) == [("b", "1"), ("a", "2")]
    assert entries.contains_key("a") and entries.contains_value("1") and not entries.contains_value("3")
    entries.add_or_update("a", "3")
    assert entries.get_value_from_key("a") == "3"
    entries.delete("b")
    for call, text in [
        (lambda: entries.add("a", "4"), "IoTHubMap.add, IoTHubMapResult.KEYEXISTS"),
        (lambda: entries.delete("b"), "IoTHubMap.delete, IoTHubMapResult.KEYNOTFOUND"),
        (lambda: entries.get_value_from_key("b"), "IoTHubMap.get_value_from_key, IoTHubMapResult.KEYNOTFOUND"),
    ]:
        with pytest.raises(doubled.IoTHubMapError) as refused:
            call()
        assert str(refused.value) == text
    with pytest.raises(TypeError):
        len(entries)


def test_maps_ask_their_filter():
    results = doubled.IoTHubMapResult
    entries = doubled.IoTHubMap(lambda key, value: results.FILTER_REJECT if key == "secret" else results.OK)
    entries.add("open", "1")
    with pytest.raises(doubled.IoTHubMapError, match="FILTER_REJECT"):
        entries.add("secret", "1")


# ---------------------------------------------------------------- options

OPTIONS = """
    messageTimeout timeout MinimumPollingTime Batching logtrace rawlogtrace keepalive connect_timeout sas_token_lifetime
    sas_token_refresh_time cbs_request_timeout event_send_timeout_secs c2d_keep_alive_freq_secs
    svc2cl_keep_alive_timeout_secs cl2svc_keep_alive_send_ratio blob_upload_timeout_secs CURLOPT_VERBOSE
    CURLOPT_LOW_SPEED_LIMIT CURLOPT_LOW_SPEED_TIME CURLOPT_FORBID_REUSE CURLOPT_FRESH_CONNECT auto_url_encode_decode
    diag_sampling_percentage
""".split()


@pytest.mark.parametrize("name", OPTIONS)
def test_known_options_are_silent(name, capfd):
    client().set_option(name, 0)
    assert capfd.readouterr().out == ""


def test_options_with_text_and_proxies_are_silent(capfd):
    device = client()
    device.set_option("product_info", "HappyPath_RaspberryPi-Python")
    device.set_option("proxy_data", doubled.HttpProxyOptions("127.0.0.1", 3128, "user", "password"))
    device.set_option("proxy_address", b"127.0.0.1:3128")
    device.set_option("Batching", True)
    with_certificate = doubled.IoTHubClient("HostName=hub.invalid;DeviceId=d;x509=true", MQTT)
    with_certificate.set_option("x509certificate", "-----BEGIN CERTIFICATE-----")
    with_certificate.set_option("x509privatekey", "-----BEGIN PRIVATE KEY-----")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name, value", [("nonsense", 1), ("messageTimeout", "text"), ("x509certificate", "x")])
def test_refused_options_are_a_line_and_no_exception(name, value, capfd):
    client().set_option(name, value)
    assert capfd.readouterr().out.startswith("IoTHub Client SetOption failed with result: ")


def test_proxy_options_have_defaults():
    proxy = doubled.HttpProxyOptions("proxy.invalid")
    assert (proxy.host_address, proxy.port, proxy.username, proxy.password) == ("proxy.invalid", 0, "", "")
    proxy.port = 8080
    assert proxy.port == 8080


def test_the_retry_policy_is_kept():
    policies, device = doubled.IoTHubClientRetryPolicy, client()
    kept = device.get_retry_policy()
    assert kept.retryPolicy is policies.RETRY_EXPONENTIAL_BACKOFF_WITH_JITTER
    assert kept.retryTimeoutLimitInSeconds == 0
    device.set_retry_policy(policies.RETRY_INTERVAL, 100)
    kept = device.get_retry_policy()
    assert (kept.retryPolicy, kept.retryTimeoutLimitInSeconds) == (policies.RETRY_INTERVAL, 100)
