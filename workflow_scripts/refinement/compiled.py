"""Numba's compiler as this room uses it: no interpreter lock, compiled code kept on disk.

Numba keeps compiled code beside the source (or in the user's cache folder, where that is read-only)
and takes it to be current while that one file is unchanged. Compiled code here contains functions and
constants of sibling modules, so the content of all of them decides.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

MODULES = ("compiled", "filtering", "mean_field", "simd", "simplices", "vertex_keys")


@cache
def _content() -> str:
    """Digest of the modules whose functions are compiled."""
    digest = hashlib.sha256()
    for name in MODULES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on first call."""
    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep compiled code
        return njit(nogil=True)(function)
    stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if stored is not None:
        stored._source_stamp = _content()
    return dispatcher
