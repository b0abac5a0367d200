"""Arrays on large memory pages, where the system lends them.

Tables of lattice vertices are read in an order that a processor's address cache cannot follow on
pages of 4 KiB; in virtual machines that costs more than the reading itself.
"""

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE_PAGE = 2 << 20


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An uninitialised array that begins with a large page; memory not touched is not used.

    NumPy asks the system for large pages in allocations from 4 MiB on.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(max(size, LARGE_PAGE) + LARGE_PAGE, np.uint8)
    skip = -room.ctypes.data % LARGE_PAGE
    return room[skip : skip + size].view(dtype).reshape(shape)
