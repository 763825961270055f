"""The key of weights: who shares a copy, who must not, and that no release gives another key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.v1alpha1 import Source
from roundhouse_operator.core.weights.key import movable, store_name, weights_key

BASE = {"type": "HuggingFace", "huggingFace": {"repo": "Systran/faster-whisper-base"}}
DIGEST = "0" * 64


def key(source: dict[str, Any], namespace: str = "speech") -> str:
    return weights_key(namespace, Source.model_validate(source))


def hub(**changes: Any) -> dict[str, Any]:
    return {"type": "HuggingFace", "huggingFace": {"repo": "Systran/faster-whisper-base", **changes}}


GOLDEN = {
    "faster-whisper-base-b2191271d01ae34a": BASE,
    "faster-whisper-base-008ef6b739ed3ba3": hub(tokenSecretRef={"name": "hf", "key": "token"}),
    "faster-whisper-base-ba0a14c8e65e3d59": hub(revision="v2", include=["*.bin", "*.json"]),
    "whisper-687cdf53bdeccee4": {
        "type": "S3",
        "s3": {"bucket": "models", "prefix": "a/whisper/", "region": "eu-north-1"},
    },
    "models-92fd785f268b84b0": {
        "type": "GCS",
        "gcs": {"bucket": "models", "credentialsSecretRef": {"name": "sa"}},
    },
    "en-d696f398d8e88ce0": {
        "type": "OCI",
        "oci": {"image": "registry.example.org/models/kws:1", "path": "en"},
    },
    "m-gguf-be177fe1aaca7a2a": {
        "type": "HTTP",
        "http": {"url": "https://x.example.org/m.gguf", "sha256": DIGEST},
    },
}
"""Never written anew: a key that changes fetches all weights of every user again."""


@pytest.mark.parametrize(("expected", "source"), GOLDEN.items(), ids=GOLDEN)
def test_keys_are_those_of_every_release(expected: str, source: dict[str, Any]) -> None:
    assert key(source) == expected


@pytest.mark.req("S2-14")
@pytest.mark.parametrize(
    "same",
    [
        hub(revision="main"),
        {**BASE, "size": "1Gi"},
        {**BASE, "allow": []},
    ],
)
def test_the_same_weights_have_one_key(same: dict[str, Any]) -> None:
    assert key(same) == key(BASE)


@dataclass(frozen=True)
class Other:
    reason: str
    source: dict[str, Any]
    namespace: str = "speech"


@pytest.mark.parametrize(
    "other",
    [
        Other("another namespace", BASE, "chat"),
        Other("another revision", hub(revision="v2")),
        Other("a token that others may not have", hub(tokenSecretRef={"name": "hf", "key": "token"})),
        Other("pickles that others refuse", {**BASE, "allow": ["UnsafeFormats"]}),
        Other("another format is made of other files", {**BASE, "format": "CTranslate2"}),
        Other("fewer files", hub(include=["*.json"])),
    ],
    ids=lambda other: other.reason,
)
def test_other_weights_have_another_key(other: Other) -> None:
    assert key(other.source, other.namespace) != key(BASE)


def test_credentials_are_told_apart_by_secret_and_key() -> None:
    keys = {
        key(hub(tokenSecretRef={"name": name, "key": entry})) for name in ("a", "b") for entry in ("t", "u")
    }
    assert len(keys) == 4


def test_keys_and_names_fit_labels_and_objects() -> None:
    longest = key(hub(repo=f"{'o' * 40}/{'M.' * 40}x"))
    assert len(longest) <= 63
    assert longest == longest.lower()
    assert len(f"{store_name(longest, 'claim x')}-check-999") <= 57, "pods get five characters more"


def test_only_what_may_move_is_pinned() -> None:
    def moves(source: dict[str, Any]) -> bool:
        return movable(Source.model_validate(source))

    assert moves(BASE)
    assert moves(hub(revision="main"))
    assert not moves(hub(revision="a" * 40))
    assert moves({"type": "OCI", "oci": {"image": "r/m:1"}})
    assert not moves({"type": "OCI", "oci": {"image": f"r/m@sha256:{DIGEST}"}})
    assert not moves({"type": "HTTP", "http": {"url": "https://x/m", "sha256": DIGEST}})
