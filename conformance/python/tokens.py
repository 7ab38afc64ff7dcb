"""SAS tokens in every spelling that clients are known to produce (device §1.3, service §2.3)."""

import base64
import hashlib
import hmac
import time
import urllib.parse


def parse_connection_string(text):
    return dict(part.split("=", 1) for part in text.split(";") if part)


def sas_token(resource, key, lifetime=3600, policy=None, encode=True, lower=False, order="sr,sig,se,skn", expiry=None):
    """A token over `resource`. `encode=False` leaves `sr` as it is; `lower` writes percent codes in lower case."""
    expiry = str(int(time.time() + lifetime)) if expiry is None else str(expiry)

    def quote(text):
        head, *rest = urllib.parse.quote(text, safe="").split("%")
        return "%".join([head, *((piece[:2].lower() + piece[2:]) if lower else piece for piece in rest)])

    sr = quote(resource) if encode else resource
    digest = hmac.new(base64.b64decode(key), f"{sr}\n{expiry}".encode(), hashlib.sha256).digest()
    fields = {"sr": sr, "sig": quote(base64.b64encode(digest).decode()), "se": expiry}
    if policy is not None:
        fields["skn"] = policy
    return "SharedAccessSignature " + "&".join(f"{name}={fields[name]}" for name in order.split(",") if name in fields)
