"""Room for llama.cpp's recursion: the stacks of threads that are started from now on.

Most of its tokenizers split a text by a regular expression whose matcher calls itself for each character of
a run. Of the 8 MiB that a thread has by default 25,000 letters in a row make the end, and with it that of the
engine. What is not used of a stack is address space and no memory.
"""

import ctypes
from typing import Final

_CHARACTER_BYTES: Final = 512
"""Measured: 280 to 420."""
_REST_BYTES: Final = 8 << 20
_ATTRIBUTES_BYTES: Final = 64
"""`pthread_attr_t` on x86-64 takes 56, on ARM 64."""


def make_room(characters: int) -> None:
    """Threads started later read texts of so many characters; elsewhere than on glibc nothing is changed."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "pthread_setattr_default_np"):
        return
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    there = ctypes.c_size_t()
    libc.pthread_getattr_default_np(attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(there))
    wanted = _REST_BYTES + characters * _CHARACTER_BYTES
    if there.value < wanted:
        libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(wanted))
        libc.pthread_setattr_default_np(attributes)
