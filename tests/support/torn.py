"""What no program writes: bytes with pieces put in and torn out."""

from hypothesis import strategies as st

Cut = tuple[int, int, bytes]
"""Where, how many bytes go, and what comes in their place."""


def pieces_of_forms(boundary: str) -> tuple[bytes, ...]:
    """Parts of a multipart body that mean something to who reads it, or ought not to."""
    return (
        *(b"\r\n", b"\n", b"--", b"\0", b"\xff\xfe", b'"', b";", b":", b"=", b"\r\n\r\n", b" "),
        *(f"--{boundary}".encode(), f"--{boundary}--".encode(), f"\r\n--{boundary}\r\n".encode()),
        *(
            b'Content-Disposition: form-data; name="model"',
            b"Content-Disposition: form-data",
            b"name*=utf-8''%ff\"",
        ),
        *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: multipart/mixed; boundary=x\r\n"),
        *(b'filename="\\"; name="file"', b"Content-Length: 5\r\n", b"\xf0\x9f\x8e\xb5", b"A" * 5000),
    )


def cuts(length: int, pieces: tuple[bytes, ...]) -> st.SearchStrategy[list[Cut]]:
    """Some, anywhere in the first `length` bytes."""
    piece = st.sampled_from(pieces) | st.binary(max_size=30)
    return st.lists(st.tuples(st.integers(0, length), st.integers(0, 40), piece), min_size=1, max_size=5)


def torn(body: bytes, where: list[Cut]) -> bytes:
    for at, length, piece in where:
        body = body[:at] + piece + body[at + length :]
    return body
