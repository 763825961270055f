"""No secret gets from a container's last words into a status."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.core.masking import DETAIL_BYTES, last_words, masked

SECRET = st.text(string.ascii_letters + string.digits, min_size=16, max_size=40).map(lambda text: f"Q7{text}")
AROUND = st.text(max_size=60)
SHAPES = (
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "sent header bearer {}",
    "password={}",
    "PGPASSWORD = '{}'",
    '{{"password": "{}"}}',
    '"api_key":"{} with spaces"',
    "HF_TOKEN={}",
    "x-api-key: {}",
    "aws_secret_access_key={}",
    "secret => {}",
    "serve --model x --api-key {} --port 80",
    "serve --token {}",
    "--hf_token '{}'",
    "Incorrect API key provided: {}.",
    "api_key '{}' refused",
    "https://bucket.example.org/x?X-Amz-Signature={}&X-Amz-Date=1",
    "https://store.example.org/x?sv=1&sig={}",
    "postgres://user:{}@db.example.org/models",
    "https://{}@github.com/org/repo",
    "https://user:p@{}@host/path",
    "rh_key1_{}",
    "hf_{}",
    "sk-proj-{}",
    "ghp_{}",
    "npm_{}",
    "sk_live_{}",
    "dapi{}",
    "AIza{}",
    "eyJhbGciOiJIUzI1NiJ9.{}.abc",
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
)


@pytest.mark.parametrize("shape", SHAPES)
@given(secret=SECRET, before=AROUND, after=AROUND)
def test_a_secret_is_not_shown(shape: str, secret: str, before: str, after: str) -> None:
    assert secret not in last_words(f"{before}\n{shape.format(secret)} {after}")


@given(st.from_regex(r"(AKIA|ASIA)[A-Z0-9]{16}", fullmatch=True))
def test_neither_is_the_id_of_a_key_of_aws(key: str) -> None:
    assert key not in last_words(f"botocore: {key} is not authorised")


@given(st.text(max_size=2000))
def test_last_words_are_one_line_of_bounded_length(text: str) -> None:
    words = last_words(text)
    assert "\n" not in words
    assert len(words.removeprefix("…").encode()) <= DETAIL_BYTES


@given(st.text(max_size=300))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ValueError: token 42 is not in the vocabulary",
        "loaded https://huggingface.co/openai/whisper-base at revision main",
        'secret "hub" not found',
        'secret "huggingface-token" not found',
        "started with --max-tokens 42 --token-limit 8 --tokenizer slow",
        "the signature of the request does not match",
        "exec: no such file or directory",
    ],
)
def test_words_that_hold_no_secret_stay(text: str) -> None:
    assert last_words(text) == text
