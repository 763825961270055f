"""What the loader tells: progress, the termination message, and no secret in any of it."""

import json
import logging
import threading

import pytest

from roundhouse_api.conditions import Reason as APIReason
from roundhouse_loader.credentials import secret_values
from roundhouse_loader.failure import LoadError, Reason, TransientError
from roundhouse_loader.fetch import Patience
from roundhouse_loader.logs import configure
from roundhouse_loader.progress import ERROR_LENGTH, Progress, Report
from roundhouse_loader.redact import Redactor, shown
from roundhouse_loader.report import MOST_BYTES, encoded, failed
from roundhouse_loader.ticker import due


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nobody_knows_anything_before_it_began() -> None:
    assert Progress(Clock()).report() == Report("Starting", -1, 0, -1, -1)


def test_a_steady_source_has_its_rate_and_an_end() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.enter("Downloading")
    progress.expect(1000)
    for _ in range(60):
        clock.now += 1
        progress.fetched(10)
    assert progress.report() == Report("Downloading", 1000, 600, 10, 40)


def test_what_was_there_already_makes_no_speed() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.enter("Downloading")
    progress.expect(1000)
    progress.found(900)
    clock.now += 1
    progress.fetched(10)
    assert progress.report() == Report("Downloading", 1000, 910, 10, 9)


def test_a_rate_is_smoothed_and_a_source_that_stands_still_has_no_end() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.enter("Downloading")
    progress.expect(1_000_000)
    clock.now += 1
    progress.fetched(1000)
    clock.now += 1
    progress.fetched(0)
    assert 900 < progress.report().bytes_per_second < 1000
    clock.now += 600
    assert progress.report() == Report("Downloading", 1_000_000, 1000, 0, -1)


def test_what_keeps_bytes_from_coming_is_told_until_some_come() -> None:
    progress = Progress(Clock(), Redactor(["hf_abcdef"]))
    progress.enter("Listing")
    progress.failed("h:1 cannot be reached with hf_abcdef")
    assert progress.report().as_json()["error"] == "h:1 cannot be reached with ***"
    progress.enter("Downloading")
    assert "error" not in progress.report().as_json()
    progress.failed("x" * 9999)
    assert len(progress.report().error) == ERROR_LENGTH
    progress.fetched(1)
    assert progress.report().error == ""


def test_a_failure_is_told_when_it_comes_again() -> None:
    progress = Progress(Clock())
    patience = Patience(60, threading.Event(), progress)
    patience.bear(TransientError("h:1 cannot be reached"))
    assert progress.report().error == ""
    patience.bear(TransientError("h:1 cannot be reached"))
    assert progress.report().error == "h:1 cannot be reached"


def test_a_line_is_due_each_ten_seconds_or_five_percent() -> None:
    start = Report("Downloading", 1000, 100, 1, 1)
    assert not due(start, Report("Downloading", 1000, 149, 1, 1), 9)
    assert due(start, Report("Downloading", 1000, 150, 1, 1), 1)
    assert due(start, start, 10)
    assert not due(start, Report("Starting", -1, 0, -1, -1), 60)


KEY = json.dumps(
    {
        "auths": {"r.example": {"auth": "cm9ib3Q6cGE1NXdvcmQ=", "identitytoken": "identity-token-1"}},
        "private_key": "-----BEGIN PRIVATE KEY-----",
        "client_email": "loader@example.org",
    }
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("token hf_abcdef here", "token *** here"),
        ("quoted a%2Fb%2Bcdef", "quoted ***"),
        ("user robot, pa55word", "user robot, ***"),
        ("base64 cGE1NXdvcmQ=", "base64 ***"),
        ("identity-token-1", "***"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("got https://u:p@h.example:8/x/y?sig=abc#f end", "got https://h.example:8/x/y?*** end"),
        ("s3://bucket/key and http://a/b", "s3://bucket/key and http://a/b"),
        ("loader@example.org", "loader@example.org"),
    ],
)
def test_secrets_are_taken_out_of_text(text: str, wanted: str) -> None:
    redact = Redactor(secret_values({"token": "hf_abcdef", "X-Key": "a/b+cdef", ".dockerconfigjson": KEY}))
    assert redact(text) == wanted


def test_an_address_is_shown_without_what_signs_it() -> None:
    assert shown("https://cdn.example/x?Signature=abc&Expires=1") == "https://cdn.example/x?***"


def test_no_line_of_the_log_holds_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    redact = Redactor()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure("INFO", "json", redact)
        redact.add(["hf_abcdef"])
        log = logging.getLogger("roundhouse_loader.test")
        try:
            int("hf_abcdef")
        except ValueError:
            log.exception("at %s", "https://x/y?token=1", extra={"sent": "hf_abcdef"})
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(level)
    line = capsys.readouterr().err
    assert json.loads(line)["message"] == "at https://x/y?***"
    assert "hf_abcdef" not in line


def test_a_termination_message_fits_whatever_it_says() -> None:
    error = LoadError(Reason.DIGEST_MISMATCH, "ä\n" * 10_000, retryable=False)
    text = encoded(failed(error, Redactor()))
    assert len(text) <= MOST_BYTES
    said = json.loads(text)
    assert (said["result"], said["reason"], said["retryable"]) == ("Failed", "DigestMismatch", False)
    assert said["message"].endswith("…")


def test_reasons_are_words_that_the_operator_knows_or_reads() -> None:
    # The operator has these since it fetches weights; `InvalidSource` it calls InvalidSpec.
    own = {Reason.UNSAFE_FORMAT, Reason.INVALID_SOURCE, Reason.LOADER_FAILED}
    assert {each.value for each in set(Reason) - own} <= {each.value for each in APIReason}
