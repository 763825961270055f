"""What the environment tells the loader, and what it says to mistakes."""

import json
from typing import Any

import pytest

from roundhouse_loader.failure import LoadError
from roundhouse_loader.settings import read_reporting, read_settings
from roundhouse_loader.source import (
    GCS,
    HTTP,
    OCI,
    S3,
    HuggingFace,
    Place,
    Source,
    WeightFormat,
    parse_source,
    pinned,
)
from roundhouse_loader.sources.reference import Reference, parse_reference
from roundhouse_loader.sources.registry import Login, find_login

SHA256 = "0" * 64
COMMIT = "c" * 40
GOOD: list[tuple[dict[str, Any], Source]] = [
    (
        {
            "type": "HuggingFace",
            "format": "CTranslate2",
            "huggingFace": {"repo": "a/b", "include": ["*.bin"]},
            "size": "1Gi",
            "allow": ["RemoteCode"],
        },
        Source(HuggingFace("a/b", "main", ("*.bin",)), WeightFormat.CTRANSLATE2, remote_code=True),
    ),
    (
        {
            "type": "S3",
            "s3": {"bucket": "b", "prefix": "p", "endpointURL": "https://s3.example", "region": "eu"},
        },
        Source(S3("b", "p", "https://s3.example", "eu")),
    ),
    (
        {"type": "GCS", "gcs": {"bucket": "b"}, "allow": ["UnsafeFormats"]},
        Source(GCS("b"), unsafe_formats=True),
    ),
    ({"type": "OCI", "oci": {"image": "r.example/m:1", "path": "/m/"}}, Source(OCI("r.example/m:1", "m"))),
    ({"type": "HTTP", "http": {"url": "https://x/y", "sha256": SHA256}}, Source(HTTP("https://x/y", SHA256))),
]


@pytest.mark.parametrize(("given", "wanted"), GOOD, ids=[str(given["type"]) for given, _ in GOOD])
def test_a_source_is_read_as_the_api_writes_it(given: dict[str, Any], wanted: Source) -> None:
    assert parse_source(json.dumps(given)) == wanted


BAD = {
    "not JSON": "{",
    "ROUNDHOUSE_SOURCE must be a JSON object": "[]",
    "spec.source.type is None": "{}",
    "spec.source.type is 'FTP'": '{"type": "FTP"}',
    "spec.source.type is PVC, and its weights are in place already": '{"type": "PVC"}',
    "spec.source.type is Builtin": '{"type": "Builtin"}',
    "spec.source.huggingFace is missing": '{"type": "HuggingFace"}',
    "spec.source.huggingFace.repo must be": '{"type": "HuggingFace", "huggingFace": {"repo": ""}}',
    "huggingFace.include must be": '{"type": "HuggingFace", "huggingFace": {"repo": "a/b", "include": [1]}}',
    "spec.source.format is 'ZIP'": '{"type": "GCS", "gcs": {"bucket": "b"}, "format": "ZIP"}',
    "http.sha256 is 'AB'": '{"type": "HTTP", "http": {"url": "https://x/y", "sha256": "AB"}}',
    "http.url holds a user or password": (
        f'{{"type": "HTTP", "http": {{"url": "https://u:p@x/y", "sha256": "{SHA256}"}}}}'
    ),
    "http.url must be an address": (
        f'{{"type": "HTTP", "http": {{"url": "file:///etc/passwd", "sha256": "{SHA256}"}}}}'
    ),
    "http.url is no address": f'{{"type": "HTTP", "http": {{"url": "https://[x", "sha256": "{SHA256}"}}}}',
}


@pytest.mark.parametrize(("message", "text"), BAD.items(), ids=BAD.keys())
def test_a_source_that_cannot_be_is_told_by_its_field(message: str, text: str) -> None:
    with pytest.raises(LoadError) as failure:
        parse_source(text)
    assert failure.value.reason == "InvalidSource"
    assert message in failure.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROUNDHOUSE_CACHE_KEY", "../other"),
        ("ROUNDHOUSE_CACHE_KEY", ""),
        ("ROUNDHOUSE_DOWNLOAD_POLICY", "Skip"),
        ("ROUNDHOUSE_LOADER_PARALLELISM", "0"),
        ("ROUNDHOUSE_LOADER_PATIENCE_SECONDS", "soon"),
        ("ROUNDHOUSE_SOURCE", None),
    ],
)
def test_a_setting_that_cannot_be_is_told_by_its_name(name: str, value: str | None) -> None:
    environ = {"ROUNDHOUSE_SOURCE": json.dumps(GOOD[2][0]), "ROUNDHOUSE_CACHE_KEY": "k", name: value}
    with pytest.raises(LoadError) as failure:
        read_settings({key: each for key, each in environ.items() if each is not None})
    assert failure.value.message.startswith(name)


def test_mistakes_in_how_to_report_do_not_keep_it_from_reporting() -> None:
    found = read_reporting({"ROUNDHOUSE_LOADER_PORT": "many", "ROUNDHOUSE_LOG_LEVEL": "loud"})
    assert (found.port, found.log_level, found.log_format) == (8002, "INFO", "json")


DIGEST = "sha256:" + "a" * 64
REFERENCES = {
    "alpine": Reference("docker.io", "library/alpine", "latest"),
    "acme/models:1.0": Reference("docker.io", "acme/models", "1.0"),
    "index.docker.io/acme/models": Reference("docker.io", "acme/models", "latest"),
    "registry.example/a/b/c:v1": Reference("registry.example", "a/b/c", "v1"),
    "localhost/tiny": Reference("localhost", "tiny", "latest"),
    "registry.example:5000/tiny": Reference("registry.example:5000", "tiny", "latest"),
    f"[::1]:5000/tiny:1@{DIGEST}": Reference("[::1]:5000", "tiny", DIGEST),
}


@pytest.mark.parametrize(("text", "wanted"), REFERENCES.items(), ids=REFERENCES.keys())
def test_a_reference_is_read_as_container_runtimes_do(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "Upper/case", "r.example/", "r.example/a@sha256:short", "r.example/a:-", "a b"]
)
def test_a_reference_that_is_none_is_told(text: str) -> None:
    with pytest.raises(LoadError, match=r"oci\.image"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("acme/models", "https://registry-1.docker.io/v2"),
        ("registry.example/m", "https://registry.example/v2"),
        ("plain.example:5000/m", "http://plain.example:5000/v2"),
        ("127.0.0.1:5000/m", "http://127.0.0.1:5000/v2"),
        ("127.0.0.1.example.org/m", "https://127.0.0.1.example.org/v2"),
    ],
)
def test_only_this_host_and_what_is_named_is_asked_without_encryption(image: str, base: str) -> None:
    assert parse_reference(image).base(frozenset({"plain.example:5000"})) == base


LOGINS = {
    "https://index.docker.io/v1/": {"auth": "aHViOm9uZQ=="},
    "registry.example": {"username": "any", "password": "two"},
    "registry.example/team": {"username": "team", "password": "three"},
    "https://tokens.example": {"auth": "PDo+Og==", "identitytoken": "four"},
}


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("alpine", Login("hub", "one")),
        ("registry.example/other/m", Login("any", "two")),
        ("registry.example/team/m", Login("team", "three")),
        ("tokens.example/m", Login("<", ">:", "four")),
        ("elsewhere.example/m", None),
    ],
)
def test_the_most_precise_login_is_used(image: str, wanted: Login | None) -> None:
    assert find_login(json.dumps({"auths": LOGINS}), parse_reference(image)) == wanted


@pytest.mark.parametrize("config", ["{", "{}", '{"auths": []}', '{"auths": {"r.example": {"auth": "%"}}}'])
def test_a_docker_config_that_is_none_is_told_without_showing_it(config: str) -> None:
    with pytest.raises(LoadError) as failure:
        find_login(config, parse_reference("r.example/m"))
    assert ".dockerconfigjson" in failure.value.message


@pytest.mark.parametrize(
    ("place", "revision", "then"),
    [
        (HuggingFace("a/b"), COMMIT, HuggingFace("a/b", COMMIT)),
        (HuggingFace("a/b", "v2"), "", HuggingFace("a/b", "v2")),
        (
            OCI("r.example:5000/m/k:1", "x"),
            f"sha256:{SHA256}",
            OCI(f"r.example:5000/m/k@sha256:{SHA256}", "x"),
        ),
        (OCI("r.example:5000/m/k"), f"sha256:{SHA256}", OCI(f"r.example:5000/m/k@sha256:{SHA256}")),
        (S3("b"), "etag", S3("b")),
    ],
    ids=str,
)
def test_what_moved_is_fetched_as_it_was(place: Place, revision: str, then: Place) -> None:
    assert pinned(Source(place), revision).place == then
