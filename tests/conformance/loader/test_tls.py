"""Encrypted sources: an authority of one's own, for every client, and no way back to plain HTTP."""

import datetime as dt
import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.gcs import Buckets
from tests.support.hub import Hub
from tests.support.loader import Loader
from tests.support.oci import ImageRegistry, gzipped
from tests.support.origin import Fault, Origin

BODY = b"weights" * 1000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for loopback that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback of the tests")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return path


def encrypted(server: Origin, certificate: Path) -> str:
    """Its address from now on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return f"https://127.0.0.1:{server.server_port}"


@pytest.fixture
def origin(certificate: Path) -> Iterator[Origin]:
    server = Origin({"model.gguf": BODY})
    encrypted(server, certificate)
    with server:
        yield server


def loader(folder: Path, url: str, **environment: str) -> Loader:
    http = {"url": f"{url}/model.gguf", "sha256": hashlib.sha256(BODY).hexdigest()}
    return Loader(folder, {"type": "HTTP", "http": http}, environment)


def test_an_authority_of_ones_own_is_trusted(origin: Origin, certificate: Path, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{origin.server_port}"
    assert loader(tmp_path, url, SSL_CERT_FILE=str(certificate)).run().status == 0
    stranger = loader(tmp_path / "stranger", url).run()
    assert stranger.reason == "SourceUnreachable"
    assert "certificate" in stranger.said["message"].lower()


def test_a_bundle_that_is_not_there_is_told(origin: Origin, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{origin.server_port}"
    ended = loader(tmp_path, url, SSL_CERT_FILE="/nowhere/ca.crt").run()
    assert ended.reason == "LoaderFailed"
    assert "SSL_CERT_FILE" in ended.said["message"]


def test_an_encrypted_source_leads_to_no_other(origin: Origin, certificate: Path, tmp_path: Path) -> None:
    with Origin({"model.gguf": BODY}) as plain:
        origin.faults = [Fault(times=-1, status=302, headers={"Location": f"{plain.url}/model.gguf"})]
        url = f"https://127.0.0.1:{origin.server_port}"
        ended = loader(tmp_path, url, SSL_CERT_FILE=str(certificate)).run()
        assert plain.seen == []
    assert ended.reason == "InvalidSource"
    assert "not encrypted" in ended.said["message"]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"])
@pytest.mark.parametrize("place", ["huggingFace", "s3", "gcs"])
def test_one_bundle_holds_for_every_client(
    certificate: Path, tmp_path: Path, place: str, variable: str
) -> None:
    kinds: dict[str, type[Origin]] = {"huggingFace": Hub, "s3": Origin, "gcs": Buckets}
    server = kinds[place]()
    url = encrypted(server, certificate)
    sources: dict[str, dict[str, Any]] = {
        "huggingFace": {"type": "HuggingFace", "huggingFace": {"repo": "acme/tiny"}},
        "s3": {"type": "S3", "s3": {"bucket": "models", "endpointURL": url}},
        "gcs": {"type": "GCS", "gcs": {"bucket": "models"}},
    }
    environment = {"HF_ENDPOINT": url, "STORAGE_EMULATOR_HOST": url, variable: str(certificate)}
    with server:
        if isinstance(server, Hub):
            server.commit("acme/tiny", {"config.json": b"{}"})
        if isinstance(server, Buckets):
            server.files["models/config.json"] = b"{}"
        ended = Loader(tmp_path, sources[place], environment).run()
    # Plain files are no S3; that it says so means that it was heard.
    assert ended.reason == ("SourceNotFound" if place == "s3" else "Complete"), ended.log


def test_a_registry_elsewhere_is_asked_with_encryption(tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        registry.put("tiny", "1", [gzipped({"model.gguf": BODY})])
        # A name for this host that no rule takes for it.
        address = f"127.0.0.1.nip.invalid:{registry.server_port}"
        one = Loader(tmp_path, {"type": "OCI", "oci": {"image": f"{address}/tiny:1"}})
        assert one.run().reason == "SourceUnreachable"
        assert registry.seen == []
