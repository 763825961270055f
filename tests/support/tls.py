"""Authorities of the tests' own, and servers that speak with encryption by their certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .origin import Origin


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(slots=True)
class Authority:
    """Signs certificates; nobody but who is told so trusts it."""

    folder: Path
    name: str = field(default_factory=lambda: f"authority {secrets.token_hex(4)} of the tests")
    key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.certificate = self._sign(self.key, self.name, ca=True)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def bundle(self) -> Path:
        path = self.folder / "authority.pem"
        path.write_text(self.pem)
        return path

    def encrypt(self, server: Origin) -> str:
        """Its address from now on."""
        context = self.server_at(server.host)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server.url

    def server_at(self, address: str) -> ssl.SSLContext:
        """For a server at an IP address, by a new certificate."""
        key = _key()
        signed = self._sign(key, "a server of the tests", address=address)
        path = self.folder / f"{signed.serial_number}.pem"
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, name: str, *, address: str = "", ca: bool = False
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if address:
            there = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            made = made.add_extension(there, critical=False)
        return made.sign(self.key, hashes.SHA256())
