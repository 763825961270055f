"""How much of a GPU's memory is in use, for handlers whose libraries do not tell what a model takes of it.

Asked of NVIDIA's driver, which is there wherever a GPU is, so that no package is needed.
"""

import ctypes
from functools import cache
from typing import Final

_LIBRARY: Final = "libcuda.so.1"
_FIRST: Final = 0
"""Of those that the process may use: CUDA_VISIBLE_DEVICES counts for the driver, too."""


@cache
def opened() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    """The driver, and the process's context on its first GPU, which is kept from then on.

    Raises `OSError` where there is none, and is tried again the next time.
    """
    cuda, context = ctypes.CDLL(_LIBRARY), ctypes.c_void_p()
    if cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), _FIRST):
        raise OSError(f"{_LIBRARY} opens no GPU.")
    return cuda, context


def used_bytes() -> int | None:
    """Of the process's first GPU, by all that use it; None where there is none.

    Opens the GPU for this process where it has not been yet, which takes some hundreds of megabytes there:
    ask before a model is loaded, and the model is not charged with them.
    """
    try:
        cuda, context = opened()
    except OSError:
        return None
    if cuda.cuCtxPushCurrent_v2(context):
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    return None if failed else total.value - free.value


class Growth:
    """What a GPU's memory grew by since this was made: a model's, where it is made before the model is.

    What others take or leave at the same time counts as well. An engine has its GPU to itself, but where no
    budget bounds its memory it loads two models at once: each is then charged with what both took meanwhile.
    """

    def __init__(self) -> None:
        self._before = used_bytes()

    def bytes(self) -> int | None:
        """None where there is no GPU."""
        if self._before is None or (now := used_bytes()) is None:
            return None
        return max(now - self._before, 0)
