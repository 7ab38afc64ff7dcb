"""Devices that sign in with certificates: known by thumbprint, or signed by a registered authority."""

import pytest
from azure.iot.device.exceptions import ClientError, CredentialError

from certs import Certificate
from hub import new_key
from identities import Identity
from judges import PAHO
from rawmqtt import Plain, device_token

operation = pytest.mark.operation
AUTHORITY_REASON = "Azure registers device authorities on its management plane, which no device or service SDK reaches"


@pytest.fixture(scope="session")
def root():
    return Certificate("Conformance Root", is_authority=True)


@pytest.fixture(scope="session")
def trusting_hub(hub, root):
    hub.trust_device_authority("conformance", root.pem)
    return hub


def x509_client(connect, identity, certificate, tmp_path, **options):
    return connect(identity, how="x509_certificate", x509=certificate.files(tmp_path), **options)


# ---------------------------------------------------------------- self-signed


@operation("sign-in: X.509 thumbprint")
@pytest.mark.parametrize("rsa_key", [False, True], ids=["ECDSA", "RSA"])
@pytest.mark.parametrize("place", ["primary SHA-1", "secondary SHA-256", "with colons", "lower case"])
def test_a_certificate_known_by_its_thumbprint(hub, new_id, connect, face, tmp_path, place, rsa_key):
    device = Identity(hub, new_id("x509"), None)
    certificate = Certificate(device.device_id, rsa_key=rsa_key)
    sha1 = certificate.thumbprint()
    thumbprints = {
        "primary SHA-1": (sha1, "C" * 40),
        "secondary SHA-256": ("C" * 64, certificate.sha256_thumbprint),
        "with colons": (":".join(sha1[index : index + 2] for index in range(0, 40, 2)), None),
        "lower case": (sha1.lower(), None),
    }[place]
    hub.registry.create_device_with_x509(device.device_id, *thumbprints, "enabled")
    client = x509_client(connect, device, certificate, tmp_path)
    client.report({"signed": "in"})
    assert client.get_twin()["reported"]["signed"] == "in"


@operation("sign-in: X.509 thumbprint")
def test_a_module_with_a_certificate(hub, device, connect, face, tmp_path):
    module = Identity(hub, device.device_id, None, "cam")
    certificate = Certificate(f"{device.device_id}/cam")
    hub.registry.create_module_with_x509(device.device_id, "cam", "", certificate.thumbprint(), None)
    assert "desired" in x509_client(connect, module, certificate, tmp_path).get_twin()


@operation("sign-in: X.509 thumbprint")
def test_another_certificate_with_the_same_name_is_refused(hub, new_id, connect, face, tmp_path):
    device = Identity(hub, new_id("x509"), None)
    hub.registry.create_device_with_x509(device.device_id, Certificate(device.device_id).thumbprint(), None, "enabled")
    with pytest.raises(CredentialError):
        x509_client(connect, device, Certificate(device.device_id), tmp_path)


@operation("sign-in: X.509 thumbprint")
def test_an_expired_certificate_is_refused(hub, new_id, connect, face, tmp_path):
    device = Identity(hub, new_id("x509"), None)
    certificate = Certificate(device.device_id, days=(-10, -2))
    hub.registry.create_device_with_x509(device.device_id, certificate.thumbprint(), None, "enabled")
    with pytest.raises(ClientError):
        x509_client(connect, device, certificate, tmp_path)


@operation("thrown out: disabled, deleted, keys changed")
def test_changing_the_thumbprint_ends_the_connection(hub, new_id, connect, face, tmp_path):
    device = Identity(hub, new_id("x509"), None)
    certificate = Certificate(device.device_id)
    hub.registry.create_device_with_x509(device.device_id, certificate.thumbprint(), None, "enabled")
    client = x509_client(connect, device, certificate, tmp_path)
    client.watch_connection()
    hub.registry.update_device_with_x509(device.device_id, None, "D" * 40, None, "enabled")
    client.wait_for_change()


# ---------------------------------------------------------------- signed by an authority


@operation("sign-in: X.509 authority")
@pytest.mark.local_only(AUTHORITY_REASON)
@pytest.mark.parametrize("links", ["root signs", "with an intermediate"])
def test_a_certificate_signed_by_a_registered_authority(trusting_hub, root, new_id, connect, face, tmp_path, links):
    device = Identity(trusting_hub, new_id("ca"), None)
    trusting_hub.registry.create_device_with_certificate_authority(device.device_id, "enabled")
    issuer = root if links == "root signs" else Certificate("Conformance Intermediate", issuer=root, is_authority=True)
    client = x509_client(connect, device, Certificate(device.device_id, issuer=issuer), tmp_path)
    client.report({"signed": "by authority"})
    assert client.get_twin()["reported"]["signed"] == "by authority"


@operation("sign-in: X.509 authority")
@pytest.mark.local_only(AUTHORITY_REASON)
def test_a_module_signed_by_a_registered_authority(trusting_hub, root, device, connect, face, tmp_path):
    trusting_hub.registry.create_module_with_certificate_authority(device.device_id, "cam", "")
    module = Identity(trusting_hub, device.device_id, None, "cam")
    certificate = Certificate(f"{device.device_id}/cam", issuer=root)
    assert "desired" in x509_client(connect, module, certificate, tmp_path).get_twin()


@operation("sign-in: X.509 authority")
@pytest.mark.local_only(AUTHORITY_REASON)
@pytest.mark.parametrize("flaw", ["other authority", "other name", "self-signed", "expired", "issuer is no authority"])
def test_a_flawed_chain_is_refused(trusting_hub, root, new_id, connect, face, tmp_path, flaw):
    device = Identity(trusting_hub, new_id("ca"), None)
    trusting_hub.registry.create_device_with_certificate_authority(device.device_id, "enabled")
    certificate = {
        "other authority": lambda: Certificate(device.device_id, issuer=Certificate("Conformance Root", is_authority=True)),
        "other name": lambda: Certificate("somebody-else", issuer=root),
        "self-signed": lambda: Certificate(device.device_id),
        "expired": lambda: Certificate(device.device_id, issuer=root, days=(-10, -2)),
        "issuer is no authority": lambda: Certificate(device.device_id, issuer=Certificate("Leaf", issuer=root)),
    }[flaw]()
    with pytest.raises(ClientError):
        x509_client(connect, device, certificate, tmp_path)


# ---------------------------------------------------------------- which credential decides


@pytest.mark.sdk(PAHO)
@operation("sign-in: X.509 thumbprint")
def test_a_device_for_certificates_does_not_open_with_a_key(hub, new_id):
    device = Identity(hub, new_id("x509"), new_key())
    hub.registry.create_device_with_x509(device.device_id, "A" * 40, None, "enabled")
    assert Plain(device, password=device_token(device)).connect() == (5, 0)


@pytest.mark.sdk(PAHO)
@operation("sign-in: X.509 thumbprint")
def test_a_device_with_keys_does_not_open_with_a_certificate(device, tmp_path):
    certificate = Certificate(device.device_id).files(tmp_path)
    assert Plain(device, certificate=certificate).connect() == (5, 0)


@pytest.mark.sdk(PAHO)
@operation("sign-in: X.509 thumbprint")
def test_with_both_the_configured_kind_decides(device, tmp_path):
    certificate = Certificate(device.device_id).files(tmp_path)
    client = Plain(device, certificate=certificate, password=device_token(device))
    assert client.connect() == (0, 0)
    client.close()
