"""WebSocket frames as bytes, held against what `websockets` makes and reads of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from roundhouse_gateway.realtime.wire import (
    BINARY,
    TEXT,
    Frames,
    masked,
    masked_anew,
    payload_start,
    unmasked,
)

SIZES = st.one_of(st.integers(0, 300), st.sampled_from((125, 126, 127, 65_535, 65_536)))


def serialized(size: int, opcode: Opcode, *, mask: bool, fin: bool = True) -> bytes:
    return Frame(opcode, bytes(number & 0x7F for number in range(size)), fin).serialize(mask=mask)


def read(side: Side, frame: bytes) -> Frame:
    """As one end of a connection has it."""
    wire = Protocol(side)
    wire.receive_data(frame)
    assert wire.parser_exc is None
    (event,) = wire.events_received()
    assert isinstance(event, Frame)
    return event


@given(st.lists(SIZES, min_size=1, max_size=6), st.lists(st.integers(0, 1 << 17), max_size=8), st.booleans())
def test_frames_are_the_same_however_the_network_cuts_them(
    sizes: list[int], cuts: list[int], mask: bool
) -> None:
    sent = [serialized(size, Opcode.BINARY, mask=mask) for size in sizes]
    stream = b"".join(sent)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    frames = Frames(1 << 20)
    found = [frame for begin, end in pairwise(places) for frame in frames.feed(stream[begin:end])]
    assert found == sent
    assert (frames.rest(), frames.too_long) == (b"", False)
    assert not frames.feed(b"")


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_a_frame_that_is_too_long_is_told_by_its_head(piece: int) -> None:
    sent = serialized(2000, Opcode.BINARY, mask=True)
    frames = Frames(1000)
    for at in range(0, len(sent), piece):
        assert not frames.feed(sent[at : at + piece])
        if frames.too_long:
            break
    assert frames.too_long
    assert sent.startswith(frames.rest())


@given(SIZES, st.sampled_from((Opcode.TEXT, Opcode.BINARY)))
def test_another_mask_changes_no_payload(size: int, opcode: Opcode) -> None:
    sent = serialized(size, opcode, mask=True)
    passed = masked_anew(sent)
    start = payload_start(sent)
    assert passed[: start - 4] == sent[: start - 4]
    assert read(Side.SERVER, passed) == read(Side.SERVER, sent)


def test_masks_are_not_the_clients_own() -> None:
    own = bytes(4)
    chosen = bytes((BINARY, 0x80 | 16)) + own + b"GET / HTTP/1.1\r\n"
    assert {masked_anew(chosen)[2:6] for _ in range(8)} != {own}


@given(SIZES)
def test_frames_of_ours_are_read_by_others(size: int) -> None:
    payload = bytes(number & 0x7F for number in range(size))
    assert read(Side.SERVER, masked(BINARY, payload)).data == payload
    assert read(Side.CLIENT, unmasked(TEXT, payload)) == Frame(Opcode.TEXT, payload)
