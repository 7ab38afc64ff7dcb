"""Certificates for devices: self-signed ones (known by thumbprint) and chains under an authority."""

import datetime

from azure.iot.device import X509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def _name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Certificate:
    """A certificate with its key, and the chain below the root if it is signed by an authority."""

    def __init__(self, common_name, issuer=None, is_authority=False, days=(-1, 30), rsa_key=False):
        self.common_name = common_name
        self.key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(issuer.common_name if issuer else common_name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.chain = [self, *(issuer.chain if issuer and issuer.issuer else [])]
        self.issuer = issuer

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def thumbprint(self, algorithm=None):
        return self.certificate.fingerprint(algorithm or hashes.SHA1()).hex().upper()

    @property
    def sha256_thumbprint(self):
        return self.thumbprint(hashes.SHA256())

    def files(self, folder):
        """Writes chain and key for the SDK, which wants paths."""
        stem = folder / f"{self.common_name}-{self.certificate.serial_number:x}".replace("/", "_")
        chain, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        chain.write_text("".join(link.pem for link in self.chain))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return X509(str(chain), str(key))
