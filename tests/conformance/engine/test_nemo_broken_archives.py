"""Archives that are broken in one place or another: each is read, or refused in words, and nothing stays."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.archive import open_archive
from tests.conformance.engine.test_nemo_archives import CONFIG, FILES, pack

BLOCK = 512
FIELDS = ((0, 100), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155), (386, 95))
"""Name, size, time, kind, link, format, the name's beginning, a sparse file's parts: where and how long."""
FUZZ = settings(max_examples=50, deadline=None)
WHOLE = pack(FILES)
with tarfile.open(fileobj=io.BytesIO(WHOLE)) as whole:
    HEADERS = [member.offset for member in whole]


@contextmanager
def opened(data: bytes) -> Iterator[Path]:
    """What it was unpacked to lies in the folder, unless it is gone again."""
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()
        (folder / "m.nemo").write_bytes(data)
        spare = Path(parent) / "spare"
        spare.mkdir()
        with patch("tempfile.tempdir", str(spare)):
            yield folder
        assert not list(spare.iterdir())


def is_read_or_refused(data: bytes) -> None:
    with opened(data) as folder, suppress(ModelError), open_archive(ModelSpec("m", folder)) as archive:
        archive.weights.read()


@FUZZ
@given(
    at=st.sampled_from(HEADERS),
    field=st.sampled_from(FIELDS),
    value=st.one_of(
        st.binary(min_size=1, max_size=12),
        st.integers(-(1 << 63), (1 << 63) - 1).map(
            lambda size: b"\xff" + size.to_bytes(11, "big", signed=True)
        ),
        st.integers(0, 1 << 33).map(lambda size: b"%011o\0" % size),
        st.sampled_from([b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"5"]),
    ),
)
@example(at=HEADERS[0], field=FIELDS[1], value=b"\xff" + (-1024).to_bytes(11, "big", signed=True))
def test_a_header_that_says_something_else(at: int, field: tuple[int, int], value: bytes) -> None:
    begin, size = field
    header = bytearray(WHOLE[at : at + BLOCK])
    header[begin : begin + size] = value[:size].ljust(size, b"\0")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    is_read_or_refused(WHOLE[:at] + bytes(header) + WHOLE[at + BLOCK :])


@FUZZ
@given(cut=st.integers(0, len(WHOLE)), at=st.integers(0, len(WHOLE)), noise=st.binary(max_size=40))
def test_what_is_cut_off_or_written_over(cut: int, at: int, noise: bytes) -> None:
    is_read_or_refused((WHOLE[:at] + noise + WHOLE[at + len(noise) :])[:cut])


@FUZZ
@given(cut=st.integers(2, 400), at=st.integers(2, 400), noise=st.binary(max_size=4))
def test_what_is_packed_and_broken(cut: int, at: int, noise: bytes) -> None:
    packed = pack(FILES, "w:gz")
    is_read_or_refused((packed[:at] + noise + packed[at + len(noise) :])[: max(len(packed) - cut, 2)])


@FUZZ
@given(
    said=st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from("{}[]:,&*!|>-?%@'\"\n \t#a1.~0x_e=<"), max_size=30).map("".join),
    )
)
@example(said="when: 2026-99-99\n")
@example(said="a: " + "[" * 1000)
@example(said="a: !!python/object/apply:os.getcwd []\n")
@example(said="a: 0x\n")
@example(said="a: !!int x\n")
@example(said="\0")
@example(said="? {a: b}\n: c\n")
@example(said="1: 2\nnull: 3\n")
def test_a_configuration_that_says_anything(said: str) -> None:
    for config in (
        said.encode(errors="surrogatepass"),
        CONFIG.encode() + said.encode(errors="surrogatepass"),
    ):
        is_read_or_refused(pack(dict(FILES) | {"./model_config.yaml": config}))


@FUZZ
@given(config=st.binary(max_size=60))
def test_a_configuration_that_is_no_text(config: bytes) -> None:
    is_read_or_refused(pack(dict(FILES) | {"./model_config.yaml": config}))
