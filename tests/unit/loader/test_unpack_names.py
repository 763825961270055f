"""Contents of archives at their places, also where a file system knows no hard links."""

import errno
import os
from pathlib import Path

import pytest

from roundhouse_loader.unpack import name_too


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_a_second_name_has_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    known, target = tmp_path / "known", tmp_path / "target"
    known.write_bytes(b"weights")

    def refused(*_: object) -> None:
        raise OSError(refusal, "no hard links here")

    if refusal:
        monkeypatch.setattr(os, "link", refused)
    name_too(known, target)
    assert target.read_bytes() == b"weights"
    assert target.samefile(known) is (refusal is None)


def test_a_full_disk_is_no_lack_of_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="no room"):
        name_too(tmp_path / "known", tmp_path / "target")
