"""A watch is read line by line, however long a line is and however its bytes arrive."""

import asyncio
import json
from unittest.mock import Mock

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.connection import lines as whole_lines


def read(chunks: list[bytes]) -> list[bytes]:
    async def run() -> list[bytes]:
        protocol = Mock(spec=BaseProtocol, _reading_paused=False)
        reader = aiohttp.StreamReader(protocol, limit=2**16, loop=asyncio.get_running_loop())
        for chunk in chunks:
            reader.feed_data(chunk)
        reader.feed_eof()
        return [line async for line in whole_lines(reader)]

    return asyncio.run(run())


def test_an_object_larger_than_the_readers_buffer_arrives_whole() -> None:
    line = json.dumps({"type": "MODIFIED", "object": {"data": "x" * 600_000}}).encode()
    assert read([line + b"\n", b'{"type":"BOOKMARK"}\n']) == [line, b'{"type":"BOOKMARK"}']


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=6), st.data())
def test_any_cut_of_the_bytes_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read([chunk for chunk in chunks if chunk]) == lines
