"""How much of a GPU's memory is in use, for handlers whose libraries do not tell what a model takes of it.

Asked of NVIDIA's driver, which is there wherever a GPU is, so that no package is needed.
"""

import ctypes
from typing import Final

_LIBRARY: Final = "libcuda.so.1"
_FIRST: Final = 0
"""Of those that the process may use: CUDA_VISIBLE_DEVICES counts for the driver, too."""


def used_bytes() -> int | None:
    """Of the process's first GPU, by all that use it; None where there is none.

    Opens the GPU for this process where it has not been yet, which takes some hundreds of megabytes there:
    ask before a model is loaded, and the model is not charged with them.
    """
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), _FIRST):
        return None
    if cuda.cuCtxPushCurrent_v2(context):
        return None
    failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    return None if failed else total.value - free.value


class Growth:
    """What a GPU's memory grew by since this was made: a model's, where it is made before the model is.

    What others take or leave at the same time counts as well: an engine has its GPU to itself.
    """

    def __init__(self) -> None:
        self._before = used_bytes()

    def bytes(self) -> int | None:
        """None where there is no GPU."""
        if self._before is None or (now := used_bytes()) is None:
            return None
        return max(now - self._before, 0)
