"""A plain HTTPS client: what a service SDK hides (raw paths, headers, exact bytes) is visible here."""

import http.client
import json
import ssl
from dataclasses import dataclass, field

from tokens import sas_token

API_VERSION = "2021-04-12"


@dataclass
class Answer:
    """One HTTP response, undigested."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes
    parsed: object = field(default=None, repr=False)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()

    @property
    def error_code(self):
        return self.headers.get("iothub-errorcode")

    @property
    def message(self):
        return self.json["Message"]

    @property
    def inner(self):
        """The JSON document inside the `Message` of a Form B error."""
        return json.loads(self.json["Message"])


class Https:
    """Requests against one hub, signed with its connection string unless told otherwise."""

    def __init__(self, hub):
        self.hub = hub

    def token(self, **changes):
        arguments = {"resource": self.hub.hostname, "key": self.hub.policy_key, "policy": self.hub.policy}
        arguments.update(changes)
        return sas_token(**arguments)

    def context(self):
        context = ssl.create_default_context()
        if self.hub.ca_pem:
            context.load_verify_locations(cadata=self.hub.ca_pem)
        return context

    def request(self, method, path, body=None, headers=None, authorization="default", api_version=API_VERSION, timeout=60):
        """`path` goes out as it is; `api_version=None` sends none; `authorization=None` sends no header."""
        if api_version is not None:
            path += ("&" if "?" in path else "?") + "api-version=" + api_version
        sent = {}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body, separators=(",", ":"))
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            sent["Content-Type"] = "application/json; charset=utf-8"
        if authorization == "default":
            authorization = self.token()
        if authorization is not None:
            sent["Authorization"] = authorization
        sent.update(headers or {})
        connection = http.client.HTTPSConnection(self.hub.hostname, 443, context=self.context(), timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.reason, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def put(self, path, body, **kwargs):
        return self.request("PUT", path, body=body, **kwargs)

    def patch(self, path, body, **kwargs):
        return self.request("PATCH", path, body=body, **kwargs)

    def post(self, path, body=None, **kwargs):
        return self.request("POST", path, body=body, **kwargs)

    def delete(self, path, **kwargs):
        return self.request("DELETE", path, **kwargs)
