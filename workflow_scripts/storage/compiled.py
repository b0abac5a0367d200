"""Numba's compiler as the kernels use it: no interpreter lock, compiled code kept on disk.

Numba keeps compiled code beside the source (or in the user's cache folder, where that is read-only)
and takes it to be current while that one file is unchanged. Compiled code contains functions and
constants of other modules, so the content of all that a kernel's module imports decides.

What is kept only saves time: where nothing can be kept or read, each process compiles anew. Numba itself is
imported by the first call of a kernel: most stages import kernels that they do not need.
"""

import functools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from workflow_scripts.fingerprint import PACKAGE, code_digests

logger = logging.getLogger(__name__)

_making = threading.RLock()


class Kernel:
    """A function that is compiled on its first call; other kernels may call it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """Numba's own object, made when it is first asked for."""
        if self._dispatcher is None:
            with _making:
                if self._dispatcher is None:
                    self._dispatcher = _dispatcher_of(self.__wrapped__)  # type: ignore[attr-defined]
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """What the compiler of a kernel that calls this one takes it for."""
        from numba import typeof

        return typeof(self.dispatcher)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of this package on its first call."""
    return Kernel(function)


def _dispatcher_of(function: Callable[..., Any]) -> Any:
    from numba import njit

    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep compiled code
        return njit(nogil=True)(function)
    kept = getattr(dispatcher, "_cache", None)
    stored = getattr(kept, "_cache_file", None)
    if kept is not None and stored is not None:
        stored._source_stamp = code_digests(function.__module__.removeprefix(f"{PACKAGE}."))
        kept.load_overload = _forgiving(kept.load_overload, kept)
        kept.save_overload = _forgiving(kept.save_overload, kept)
    return dispatcher


def _forgiving(access: Callable[..., Any], kept: Any) -> Callable[..., Any]:
    """Access to kept code that finds none where the disk is full, read-only or its files are damaged."""

    def attempt(*arguments: Any) -> Any:
        try:
            return access(*arguments)
        except Exception as error:  # of any kind: a damaged file can hold anything
            _say_once(str(kept.cache_path), str(error))
            if not isinstance(error, OSError):
                with suppress(OSError):
                    kept.flush()
            return None

    return attempt


@cache
def _say_once(folder: str, reason: str) -> None:
    logger.warning("%s: compiled code cannot be kept or read there (%s)", folder, reason)
