"""Numba's compiler as the kernels use it: no interpreter lock, compiled code kept on disk.

Numba keeps compiled code beside the source (or in the user's cache folder, where that is read-only)
and takes it to be current while that one file is unchanged. Compiled code contains functions and
constants of other modules, so the content of all that a kernel's module imports decides.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

from workflow_scripts.fingerprint import PACKAGE, code_digests


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of this package on its first call.

    Where nothing can be kept (a read-only checkout and no cache folder of the user's), each process
    compiles anew.
    """
    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep compiled code
        return njit(nogil=True)(function)
    stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if stored is not None:
        stored._source_stamp = code_digests(function.__module__.removeprefix(f"{PACKAGE}."))
    return dispatcher
