"""Items of the top-level arrays of a JSON file, one after another.

COCO's annotations are half a gigabyte of JSON, several gigabytes as Python objects. Here only one item
exists at a time, and its place in the file is given, so that a worker can read it again.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workflow_scripts.errors import InputError

CHUNK = 1 << 22
_SPACE = " \t\r\n"


class Item(NamedTuple):
    """An item of the array `key`; bytes `start` to `end` of the file hold it."""

    key: str
    value: Any
    start: int
    end: int


def items(path: Path, keys: Collection[str]) -> Iterator[Item]:
    """Yield the items of those top-level arrays whose key is in `keys`, in the file's order.

    The file is read as Latin-1, in which bytes and characters correspond and JSON's structure is the
    same: text outside ASCII must be read again, as UTF-8, from its bytes.

    Raises:
        InputError: The file is missing, truncated or no JSON object.
    """
    try:
        with path.open(encoding="latin-1", newline="") as stream:
            yield from _Reader(stream).members(keys)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not a complete JSON object ({error})") from error


def read_again(path: Path, start: int, end: int) -> Any:
    """Return the value that lies at these bytes of a file."""
    with path.open("rb") as stream:
        stream.seek(start)
        return json.loads(stream.read(end - start))


class _Reader:
    """A window on the text that moves forward: `text[at:]` is what has not been consumed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def members(self, keys: Collection[str]) -> Iterator[Item]:
        self._expect("{")
        if self._skip_if("}"):
            return
        while True:
            key, _, _ = self._value()
            self._expect(":")
            if key in keys and self._skip_if("["):
                yield from self._array(key)
            else:
                self._value()
            if self._skip_if("}"):
                return
            self._expect(",")

    def _array(self, key: str) -> Iterator[Item]:
        if self._skip_if("]"):
            return
        while True:
            value, start, end = self._value()
            yield Item(key, value, start, end)
            if self._skip_if("]"):
                return
            self._expect(",")

    def _value(self) -> tuple[Any, int, int]:
        """Decode the next value, and give its place in the file."""
        self._next_character()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number at the end of the window may go on behind it.
                if end < len(self._text) or self._ended:
                    start, self._at = self._at, end
                    return value, self._dropped + start, self._dropped + end
            self._read_more()

    def _next_character(self) -> str:
        """Skip white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read_more()

    def _skip_if(self, character: str) -> bool:
        if self._next_character() != character:
            return False
        self._at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._skip_if(character):
            place = self._dropped + self._at
            found = self._next_character() or "the end of the file"
            raise ValueError(f"expected {character!r} at byte {place}, found {found!r}")

    def _read_more(self) -> None:
        more = self._stream.read(CHUNK)
        self._ended = not more
        self._text = self._text[self._at :] + more
        self._dropped += self._at
        self._at = 0
