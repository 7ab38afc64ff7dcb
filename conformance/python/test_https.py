"""Plain HTTPS: routes, versions, headers and error bodies that a service SDK would hide."""

import http.client
import re
import socket

import pytest

from hub import new_key
from judges import HTTPS
from rawmqtt import DEADLINE, tls
from tokens import sas_token

operation = pytest.mark.operation
pytestmark = pytest.mark.sdk(HTTPS)


def create(https, device_id, **fields):
    return https.put(f"/devices/{device_id}", {"deviceId": device_id, **fields})


# ---------------------------------------------------------------- error bodies


def form_a(answer, status, name):
    assert answer.status == status, answer
    assert re.match(rf"ErrorCode:{name};.*", answer.message), answer.message
    assert re.match(r"Tracking ID:[0-9a-f]{32}\S*-TimeStamp:", answer.json["ExceptionMessage"])
    assert answer.error_code == name
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    return True


def form_b(answer, status, number, name):
    assert answer.status == status, answer
    inner = answer.inner
    assert inner["errorCode"] == number
    assert inner["message"]
    assert re.match(r"[0-9a-f]{32}", inner["trackingId"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", inner["timestampUtc"])
    assert "info" in inner
    assert answer.json["ExceptionMessage"] == ""
    assert answer.error_code == name
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    return True


@operation("errors: bodies and headers")
def test_registry_errors_are_form_a(https, device, new_id):
    absent = new_id()
    assert form_a(https.get(f"/devices/{absent}"), 404, "DeviceNotFound")
    assert https.get(f"/devices/{absent}").message == f"ErrorCode:DeviceNotFound;{absent}"
    assert form_a(create(https, device.device_id), 409, "DeviceAlreadyExists")
    assert form_a(https.get(f"/devices/{device.device_id}/modules/none"), 404, "ModuleNotFound")
    stale = {"If-Match": '"c3RhbGU="'}
    assert form_a(https.put(f"/devices/{device.device_id}", {"deviceId": device.device_id}, headers=stale), 412,
                  "PreconditionFailed")  # fmt: skip
    assert form_a(https.delete(f"/devices/{device.device_id}", headers=stale), 412, "PreconditionFailed")


@operation("errors: bodies and headers")
def test_twin_errors_are_form_a(https, device, new_id):
    assert form_a(https.get(f"/twins/{new_id()}"), 404, "DeviceNotFound")
    assert form_a(https.get(f"/twins/{device.device_id}/modules/none"), 404, "ModuleNotFound")
    stale = {"If-Match": '"AAAAAAAAAAA="'}
    assert form_a(https.patch(device.twin_path, {"tags": {}}, headers=stale), 412, "PreconditionFailed")


@operation("errors: bodies and headers")
def test_method_errors_are_form_b(https, device, new_id):
    call = {"methodName": "m"}
    assert form_b(https.post(f"/twins/{new_id()}/methods", call), 404, 404001, "DeviceNotFound")
    assert form_b(https.post(f"/twins/{device.device_id}/modules/x/methods", call), 404, 404010, "ModuleNotFound")
    assert form_b(https.post(f"/twins/{device.device_id}/methods", call), 404, 404103, "DeviceNotOnline")


@operation("errors: bodies and headers")
def test_the_reason_phrases_are_the_standard_ones(https, device, new_id):
    assert https.get(f"/devices/{new_id()}").reason == "Not Found"
    assert create(https, device.device_id).reason == "Conflict"
    assert https.get("/devices", authorization=None).reason == "Unauthorized"


# ---------------------------------------------------------------- sign-in and rights


@operation("service sign-in and rights")
def test_no_authorization_is_401(https):
    answer = https.get("/devices", authorization=None)
    assert answer.status == 401
    assert re.match(r"ErrorCode:IotHubUnauthorized(Access)?;", answer.message)


@operation("service sign-in and rights")
@pytest.mark.parametrize(
    "change",
    [
        {"encode": False},
        {"order": "sr,sig,skn,se"},
        {"order": "skn,se,sig,sr"},
        {"lower": True},
        {"lifetime": -60},
        {"resource": "{hub}/devices"},
        {"resource": "https://{hub}"},
        {"resource": "{HUB}"},
        {"resource": "{hub}:443"},
    ],
    ids=str,
)
def test_tokens_in_every_spelling(hub, https, change):
    change = dict(change)
    if "resource" in change:
        change["resource"] = change["resource"].format(hub=hub.hostname, HUB=hub.hostname.upper())
    assert https.get("/devices?top=1", authorization=https.token(**change)).status == 200


@operation("service sign-in and rights")
def test_bad_tokens_are_401(hub, https, device):
    bad = {
        "expired": https.token(lifetime=-3600),
        "wrong key": https.token(key=new_key()),
        "unknown policy": https.token(policy="nobody"),
        "other hub": https.token(resource="other.example.net"),
        "other path": https.token(resource=f"{hub.hostname}/twins"),
        "a device's own token": sas_token(f"{hub.hostname}/devices/{device.device_id}", device.key),
        "garbage": "SharedAccessSignature nonsense",
        "another scheme": "Basic YTpi",
        "empty": "",
    }
    for name, authorization in bad.items():
        answer = https.get("/devices?top=1", authorization=authorization)
        assert (name, answer.status) == (name, 401)
        assert re.match(r"ErrorCode:IotHubUnauthorized(Access)?;", answer.message)
        assert answer.error_code


RIGHTS = [
    ("GET", "/devices/{id}", {"iothubowner": 200, "registryRead": 200, "registryReadWrite": 200, "service": 401, "device": 401}),
    ("GET", "/devices?top=1", {"registryRead": 200, "registryReadWrite": 200, "service": 401, "device": 401}),
    ("PUT", "/devices/{id}", {"registryRead": 401, "registryReadWrite": 200, "service": 401, "device": 401}),
    ("DELETE", "/devices/{id}/modules/valve", {"registryRead": 401, "service": 401, "device": 401, "registryReadWrite": 204}),
    ("POST", "/devices", {"registryRead": 401, "service": 401, "device": 401, "registryReadWrite": 200}),
    ("GET", "/statistics/devices", {"registryRead": 200, "registryReadWrite": 200, "device": 401}),
    ("GET", "/twins/{id}", {"service": 200, "iothubowner": 200, "registryRead": 401, "device": 401}),
    ("PATCH", "/twins/{id}", {"service": 200, "iothubowner": 200, "registryReadWrite": 401, "device": 401}),
    ("POST", "/twins/{id}/methods", {"service": 404, "iothubowner": 404, "registryReadWrite": 401, "device": 401}),
    ("POST", "/devices/query", {"service": 200, "iothubowner": 200, "registryReadWrite": 401, "device": 401}),
    ("GET", "/jobs/v2/query", {"service": 200, "iothubowner": 200, "registryRead": 200, "device": 401}),
    ("PUT", "/jobs/v2/{id}", {"registryRead": 401, "device": 401, "service": 200}),
    ("PUT", "/jobs/v2/{id}", {"registryReadWrite": 200}),
    ("POST", "/jobs/v2/{id}/cancel", {"service": 404, "registryReadWrite": 404, "registryRead": 401, "device": 401}),
    ("GET", "/configurations", {"service": 200, "iothubowner": 200, "registryRead": 200, "device": 401}),
    ("PUT", "/configurations/{id}", {"service": 404, "registryReadWrite": 404, "registryRead": 401, "device": 401}),
    ("POST", "/configurations/testQueries", {"service": 200, "registryRead": 200, "device": 401}),
]  # fmt: skip
JOB = {"type": "scheduleUpdateTwin", "queryCondition": "deviceId = 'nobody'", "updateTwin": {"tags": {"a": 1}}}
CONFIGURATION = {"id": "{id}", "schemaVersion": "1.0", "content": {"deviceContent": {"properties.desired.a": 1}}}
BODIES = {
    "PUT /devices": {"deviceId": "{id}"}, "PUT /jobs": JOB, "PUT /configurations": CONFIGURATION,
    "PATCH /twins": {"tags": {"a": 1}}, "POST /twins": {"methodName": "m"}, "POST /jobs": {},
    "POST /devices/query": {"query": "SELECT deviceId FROM devices WHERE deviceId = 'nobody'"}, "POST /devices": [],
    "POST /configurations/testQueries": {"targetCondition": "deviceId = 'nobody'"},
}  # fmt: skip


@pytest.fixture(scope="session")
def policies(hub):
    """The five built-in policies with their keys; only our own hub hands those out."""
    answer = hub.https.get("/ostler/v1/policies")
    assert answer.status == 200, answer
    listed = answer.json
    listed = listed.get("policies", listed) if isinstance(listed, dict) else listed
    return {policy.get("name", policy.get("keyName")): policy["primaryKey"] for policy in listed}


@operation("service sign-in and rights")
@pytest.mark.local_only("the keys of the built-in policies are not readable through Azure's service API")
@pytest.mark.parametrize("method,path,expected", RIGHTS, ids=[f"{method} {path}" for method, path, _ in RIGHTS])
def test_each_policy_may_do_what_it_is_for(https, policies, new_module, method, path, expected):
    module = new_module()
    device_id = module.device_id
    for policy, status in expected.items():
        token = https.token(policy=policy, key=policies[policy])
        body = next((value for key, value in BODIES.items() if f"{method} {path}".startswith(key)), None)
        if body:
            body = {key: device_id if value == "{id}" else value for key, value in body.items()}
        headers = {"If-Match": "*"} if method in ("PUT", "DELETE") else {}
        answer = https.request(method, path.format(id=device_id), body=body, headers=headers, authorization=token)
        assert (policy, answer.status) == (policy, status), answer
        if status == 401:
            assert answer.error_code in ("IotHubUnauthorizedAccess", "IotHubUnauthorized")


# ---------------------------------------------------------------- api-version


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize(
    "version", ["2016-02-03", "2016-11-14", "2018-06-30", "2020-05-31-preview", "2021-04-12", "2024-03-31"]
)
def test_every_published_api_version_is_spoken(https, device, version):
    assert https.get(f"/devices/{device.device_id}", api_version=version).status == 200
    assert https.get(device.twin_path, api_version=version).status == 200


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize("version", [None, "", "latest", "2021-4-12", "1.0", "2021-13-45"])
def test_a_missing_or_malformed_api_version_is_refused(https, device, version):
    answer = https.get(f"/devices/{device.device_id}", api_version=version)
    assert form_a(answer, 400, "InvalidProtocolVersion")


# ---------------------------------------------------------------- paths


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize("path", ["/devices/", "/Devices", "/DEVICES/"])
def test_trailing_slashes_and_case_of_fixed_segments_do_not_matter(https, path):
    assert https.get(f"{path}?top=1").status == 200


@operation("paths, versions, unknown routes")
def test_paths_to_one_device_in_all_spellings(https, device):
    for path in (f"/devices/{device.device_id}/", f"/TWINS/{device.device_id}", f"/twins/{device.device_id}/",
                 f"/devices/{device.device_id}/Modules/"):  # fmt: skip
        assert https.get(path).status == 200, path
    assert https.get(f"/devices/{device.device_id.upper()}").status == 404


@operation("paths, versions, unknown routes")
def test_ids_are_percent_decoded_after_the_path_is_split(https, new_id):
    device_id = new_id() + "+b#c%d:e"
    encoded = device_id.replace("%", "%25").replace("+", "%2B").replace("#", "%23")
    assert https.put(f"/devices/{encoded}", {"deviceId": device_id}).json["deviceId"] == device_id
    assert https.get(f"/devices/{encoded}").status == 200
    assert https.get(f"/twins/{encoded.lower()}").status == 200
    assert https.get(f"/devices/{encoded.replace('%2B', '+')}").status == 200
    assert https.delete(f"/devices/{encoded}").status == 204


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize("raw", ["a%2Fb", "..%2F..%2Fetc", "a%00b", "%ff%fe", "%zz", "a%20b", "x" * 129, "x" * 20_000])
def test_ids_that_cannot_be_are_refused_politely(https, raw):
    answer = https.get(f"/devices/{raw}")
    assert answer.status in (400, 404, 414, 431)
    if answer.status == 400:
        assert re.match(r"ErrorCode:\w+;", answer.message)


@operation("paths, versions, unknown routes")
def test_the_body_must_name_the_device_of_the_path(https, new_id):
    device_id = new_id()
    answer = https.put(f"/devices/{device_id}", {"deviceId": "another"})
    assert answer.status == 400
    assert https.get(f"/devices/{device_id}").status == 404


@operation("paths, versions, unknown routes")
def test_put_and_get_of_a_device_called_query(https):
    assert https.put("/devices/query", {"deviceId": "query"}, headers={}).status in (200, 409)
    assert https.get("/devices/query").json["deviceId"] == "query"
    assert https.delete("/devices/query").status == 204


@operation("paths, versions, unknown routes")
def test_unknown_query_parameters_and_headers_are_ignored(https, device):
    answer = https.get(f"/devices/{device.device_id}?x=y&api-versions=1", headers={"X-Anything": "1"})
    assert answer.status == 200


@operation("paths, versions, unknown routes")
def test_the_method_override_counts_on_post_only(https, device):
    answer = https.get(device.twin_path, headers={"X-HTTP-Method-Override": "PATCH"})
    assert answer.status == 200
    assert "tags" not in answer.json


UNSUPPORTED = [
    ("GET", "/jobs"),
    ("POST", "/jobs/create"),
    ("GET", "/digitaltwins/d1"),
    ("POST", "/digitaltwins/d1/commands/c"),
]


@operation("paths, versions, unknown routes")
@pytest.mark.local_only("Azure supports these")
@pytest.mark.parametrize("method,path", UNSUPPORTED, ids=[f"{method} {path}" for method, path in UNSUPPORTED])
def test_routes_of_the_real_service_say_that_they_are_not_supported(https, method, path):
    answer = https.request(method, path, body=None if method in ("GET", "DELETE") else {})
    assert answer.status in (404, 405, 501)
    assert answer.error_code
    assert "not supported" in answer.message.lower()


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize("path", ["/nothing", "/twins", "/devices/a/b/c/d"])
def test_unknown_routes_answer_with_an_error_body(https, path):
    answer = https.get(path)
    assert answer.status in (400, 404, 405)
    assert answer.json["Message"]


@operation("paths, versions, unknown routes")
@pytest.mark.parametrize("method", ["POST", "PATCH", "TRACE", "BREW"])
def test_unknown_verbs_are_refused(https, device, method):
    answer = https.request(method, f"/devices/{device.device_id}")
    assert answer.status in (400, 404, 405, 501)


# ---------------------------------------------------------------- bodies


@operation("errors: bodies and headers")
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b'{"deviceId":1}', b'{"status":"sleeping"}', b'{"authentication":5}',
     b'{"authentication":{"type":"magic"}}', b"\xff\xfe", b"[" * 50_000],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_bad_bodies_are_bad_requests(https, new_id, body):
    device_id = new_id()
    if body.startswith(b'{"') and b"deviceId" not in body:
        body = body.replace(b"{", b'{"deviceId":"%s",' % device_id.encode(), 1)
    answer = https.put(f"/devices/{device_id}", body)
    assert answer.status == 400
    assert re.match(r"ErrorCode:\w+;.*", answer.message)
    assert https.get(f"/devices/{device_id}").status == 404


@operation("errors: bodies and headers")
def test_duplicate_keys_are_settled_one_way(https, device):
    answer = https.patch(device.twin_path, b'{"tags":{"a":1,"a":2}}')
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json["tags"] == {"a": 2}


@operation("errors: bodies and headers")
def test_a_body_of_300_megabytes_is_refused_without_being_read(hub, https, device):
    """The hub answers from the announced length alone; nothing of the body is sent."""
    raw = socket.create_connection((hub.hostname, 443), timeout=DEADLINE)
    with tls(device).wrap_socket(raw, server_hostname=hub.hostname) as secure:
        head = f"PATCH {device.twin_path}?api-version=2021-04-12 HTTP/1.1\r\nHost: {hub.hostname}\r\n"
        secure.sendall(f"{head}Authorization: {https.token()}\r\nContent-Length: 314572800\r\n\r\n".encode())
        assert secure.recv(64).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


@operation("errors: bodies and headers")
def test_a_chunked_body_is_read_and_an_endless_one_is_cut(hub, https, device):
    raw = socket.create_connection((hub.hostname, 443), timeout=DEADLINE)
    with tls(device).wrap_socket(raw, server_hostname=hub.hostname) as secure:
        head = f"PATCH {device.twin_path}?api-version=2021-04-12 HTTP/1.1\r\nHost: {hub.hostname}\r\n"
        secure.sendall(f"{head}Authorization: {https.token()}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        secure.sendall(b'12\r\n{"tags":{"a":"bc"}\r\n1\r\n}\r\n0\r\n\r\n')
        assert secure.recv(64).startswith(b"HTTP/1.1 200")
        secure.sendall(f"{head}Authorization: {https.token()}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        received = b""
        try:
            for _ in range(4096):
                secure.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        except OSError:
            received = b"cut"
        else:
            received = secure.recv(64)
        assert received == b"cut" or received.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


@operation("device: list")
@pytest.mark.parametrize("top,status", [("1", 200), ("1000", 200), ("0", None), ("x", 400)])
def test_top_is_between_1_and_1000(https, device, top, status):
    answer = https.get(f"/devices?top={top}")
    assert answer.status in ((status,) if status else (200, 400))


@operation("device: delete")
def test_delete_answers_204_without_a_body(https, device):
    answer = https.delete(f"/devices/{device.device_id}", headers={"If-Match": "*"})
    assert (answer.status, answer.body) == (204, b"")


@operation("device: delete")
@pytest.mark.sdk(HTTPS)
def test_purging_the_commands_of_a_device_finds_none(https, device, new_id):
    answer = https.delete(f"/devices/{device.device_id}/commands")
    assert (answer.status, answer.json["totalMessagesPurged"]) == (200, 0)
    assert https.delete(f"/devices/{new_id()}/commands").status == 404


@operation("conditional writes (If-Match)")
@pytest.mark.parametrize("spelling", ["*", '"*"', "{etag}", '"{etag}"', 'W/"{etag}"', '""'])
def test_if_match_in_every_spelling(https, device, spelling):
    path = f"/devices/{device.device_id}"
    etag = https.get(path).json["etag"]
    answer = https.delete(path, headers={"If-Match": spelling.format(etag=etag)})
    assert answer.status == 204


@operation("conditional writes (If-Match)")
def test_etags_are_quoted_in_the_header_and_bare_in_the_body(https, device, new_module):
    module = new_module(of=device)
    for path in (f"/devices/{device.device_id}", f"/devices/{device.device_id}/modules/{module.module_id}"):
        answer = https.get(path)
        assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'


@operation("device: create with keys")
@pytest.mark.parametrize("body", [{}, {"authentication": None}, {"authentication": {"symmetricKey": None}},
                                  {"authentication": {"type": "sas", "symmetricKey": {"primaryKey": None}}}])  # fmt: skip
def test_a_create_without_authentication_makes_keys(https, new_id, body):
    answer = create(https, new_id(), **body)
    assert answer.status == 200
    assert answer.json["authentication"]["type"] == "sas"
    assert answer.json["authentication"]["symmetricKey"]["primaryKey"]
    assert answer.json["authentication"]["x509Thumbprint"] == {"primaryThumbprint": None, "secondaryThumbprint": None}


@operation("device: create with keys")
def test_the_kind_of_authentication_is_inferred(https, new_id):
    thumbprint = {"primaryThumbprint": "A" * 40, "secondaryThumbprint": None}
    answer = create(https, new_id(), authentication={"x509Thumbprint": thumbprint})
    assert answer.json["authentication"]["type"] == "selfSigned"


@operation("device: update")
def test_read_only_fields_sent_back_are_ignored(https, device):
    path = f"/devices/{device.device_id}"
    before = https.get(path).json
    sent = {**before, "generationId": "1", "connectionState": "Connected", "cloudToDeviceMessageCount": 9,
            "lastActivityTime": "2030-01-01T00:00:00Z"}  # fmt: skip
    after = https.put(path, sent, headers={"If-Match": f'"{before["etag"]}"'}).json
    for field in ("generationId", "connectionState", "cloudToDeviceMessageCount", "lastActivityTime"):
        assert after[field] == before[field]


@operation("device: create with keys")
def test_an_edge_device_gets_its_scope_and_system_modules(https, new_id):
    device = create(https, new_id("edge"), capabilities={"iotEdge": True}).json
    assert device["capabilities"] == {"iotEdge": True}
    assert re.fullmatch(rf"ms-azure-iot-edge://{device['deviceId']}-\d+", device["deviceScope"])
    modules = {module["moduleId"] for module in https.get(f"/devices/{device['deviceId']}/modules").json}
    assert modules == {"$edgeAgent", "$edgeHub"}
    leaf = create(https, new_id("leaf"), deviceScope=device["deviceScope"]).json
    assert leaf["parentScopes"] == [device["deviceScope"]]


@operation("errors: bodies and headers")
def test_a_client_that_asks_before_it_sends_is_told_to_go_on(hub, https, device):
    body = b'{"tags":{"a":1}}'
    raw = socket.create_connection((hub.hostname, 443), timeout=DEADLINE)
    with tls(device).wrap_socket(raw, server_hostname=hub.hostname) as secure:
        head = f"PATCH {device.twin_path}?api-version=2021-04-12 HTTP/1.1\r\nHost: {hub.hostname}\r\n"
        head += f"Authorization: {https.token()}\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        secure.sendall(head.encode())
        assert secure.recv(64).startswith(b"HTTP/1.1 100")
        secure.sendall(body)
        assert secure.recv(64).startswith(b"HTTP/1.1 200")


@operation("errors: bodies and headers")
def test_many_requests_share_one_connection(hub, https, device):
    connection = http.client.HTTPSConnection(hub.hostname, 443, context=https.context(), timeout=DEADLINE)
    for number in range(20):
        path = device.twin_path if number % 2 else "/devices/none-such"
        connection.request("GET", f"{path}?api-version=2021-04-12", headers={"Authorization": https.token()})
        response = connection.getresponse()
        response.read()
        assert response.status == (200 if number % 2 else 404)
        assert connection.sock is not None, "the hub keeps the connection"
    connection.close()
