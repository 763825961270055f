"""Encrypted sources: an authority of one's own, for every client, and no way back to plain HTTP."""

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certifi import where

from roundhouse_loader.certificates import trust
from tests.support.gcs import Buckets
from tests.support.hub import Hub
from tests.support.loader import Loader
from tests.support.oci import ImageRegistry, gzipped
from tests.support.origin import Fault, Origin
from tests.support.tls import Authority

BODY = b"weights" * 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def certificate(authority: Authority) -> Path:
    """A file with the authority's own."""
    return authority.bundle


@pytest.fixture
def origin(authority: Authority) -> Iterator[Origin]:
    server = Origin({"model.gguf": BODY})
    authority.encrypt(server)
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


def test_an_authority_is_trusted_beside_those_of_a_bundle(
    origin: Origin, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with Origin({"model.gguf": BODY}) as second:
        url = other.encrypt(second)
        both = {"SSL_CERT_FILE": str(other.bundle), "ROUNDHOUSE_CA_CERTIFICATES": authority.pem}
        here = f"https://127.0.0.1:{origin.server_port}"
        assert loader(tmp_path / "first", here, **both).run().reason == "Complete"
        assert loader(tmp_path / "second", url, **both).run().reason == "Complete"


def test_public_authorities_are_trusted_still(authority: Authority) -> None:
    environ = {"ROUNDHOUSE_CA_CERTIFICATES": authority.pem}
    trust(environ)
    joined = Path(environ["SSL_CERT_FILE"]).read_text()
    assert joined.startswith(Path(where()).read_text())
    assert authority.pem in joined
    assert {environ[name] for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")} == {environ["SSL_CERT_FILE"]}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_words_between_certificates_may_be_in_any_alphabet(
    authority: Authority, tmp_path: Path, encoding: str
) -> None:
    other = Authority(tmp_path)
    bundle = tmp_path / "commented.pem"
    bundle.write_bytes(f"# Behörde der Müller AG\n{other.pem}".encode(encoding))
    own = f"# Zertifizierungsstelle für alle — 認証局\n{authority.pem}# é\n"
    environ = {"SSL_CERT_FILE": str(bundle), "ROUNDHOUSE_CA_CERTIFICATES": own}
    trust(environ)
    context = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
    trusted = {str(each["subject"]) for each in context.get_ca_certs()}
    assert len(trusted) == 2
    assert all(any(each.name in subject for subject in trusted) for each in (authority, other))


@pytest.mark.parametrize(
    "said",
    [
        "/etc/ssl/mine.pem",
        "-----BEGIN CERTIFICATE-----\nmine\n",
        "-----BEGIN CERTIFICATE-----\nMüller\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_told(origin: Origin, tmp_path: Path, said: str) -> None:
    url = f"https://127.0.0.1:{origin.server_port}"
    ended = loader(tmp_path, url, ROUNDHOUSE_CA_CERTIFICATES=said).run()
    assert ended.reason == "LoaderFailed"
    assert "ROUNDHOUSE_CA_CERTIFICATES holds no certificates in PEM form" in ended.said["message"]


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


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        ("huggingFace", "ROUNDHOUSE_CA_CERTIFICATES"),
        ("huggingFace", "AWS_CA_BUNDLE"),
        ("s3", "ROUNDHOUSE_CA_CERTIFICATES"),
        ("s3", "SSL_CERT_FILE"),
        ("gcs", "ROUNDHOUSE_CA_CERTIFICATES"),
        ("gcs", "SSL_CERT_FILE"),
        ("gcs", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_one_bundle_holds_for_every_client(
    authority: Authority, tmp_path: Path, place: str, variable: str
) -> None:
    kinds: dict[str, type[Origin]] = {"huggingFace": Hub, "s3": Origin, "gcs": Buckets}
    server = kinds[place]()
    url = authority.encrypt(server)
    sources: dict[str, dict[str, Any]] = {
        "huggingFace": {"type": "HuggingFace", "huggingFace": {"repo": "acme/tiny"}},
        "s3": {"type": "S3", "s3": {"bucket": "models", "endpointURL": url}},
        "gcs": {"type": "GCS", "gcs": {"bucket": "models"}},
    }
    said = authority.pem if variable == "ROUNDHOUSE_CA_CERTIFICATES" else str(authority.bundle)
    environment = {"HF_ENDPOINT": url, "STORAGE_EMULATOR_HOST": url, variable: said}
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
