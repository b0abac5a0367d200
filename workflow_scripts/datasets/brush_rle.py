"""Label Studio's run-length code of brush strokes: thi.ng's `rle-pack`, over the four bytes of each pixel.

A stream of bits: 32 of the number of values, 5 of the bits a value has (less one), four times 4 of the sizes
that a run's length may have (less one); then runs of a flag, 2 bits that choose the size, the length (less
one), and either the value that is repeated, or, where the flag is 0, that many values.
Source: https://github.com/thi-ng/umbrella, packages/rle-pack.
"""

from itertools import pairwise

import numpy as np

_SIZES = (3, 4, 8, 16)
_WORD = 8
_CHANNELS = 4
_LONGEST = 1 << _SIZES[-1]


def encode_brush(region: np.ndarray) -> list[int]:
    """The code of a region, bool [H, W]: bytes as whole numbers, pixels of 0 or 255 in all four channels."""
    flat = np.repeat(region.ravel(), _CHANNELS)
    bits = [f"{flat.size:032b}", f"{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = [0, *edges.tolist(), flat.size]
    for start, end in pairwise(bounds):
        value = f"{255 if flat[start] else 0:0{_WORD}b}"
        for begin in range(start, end, _LONGEST):
            length = min(_LONGEST, end - begin)
            choice = next(i for i, size in enumerate(_SIZES) if length <= 1 << size)
            bits.append(f"1{choice:02b}{length - 1:0{_SIZES[choice]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode_brush(code: list[int], height: int, width: int) -> np.ndarray:
    """The region of a code, bool [H, W]: where a pixel's last channel is not 0.

    Raises:
        ValueError: The code is no such stream, or of another size than the image.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes(code))
    place = 0

    def read(size: int) -> int:
        nonlocal place
        if place + size > len(bits):
            raise ValueError("the code ends within a run")
        place += size
        return int(bits[place - size : place], 2)

    count = read(32)
    if count != height * width * _CHANNELS:
        raise ValueError(f"the code has {count} values, the image {height * width} pixels of four")
    if read(5) + 1 != _WORD:
        raise ValueError(f"the code's values do not have {_WORD} bits")
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeated, size = read(1), sizes[read(2)]
        end = done + read(size) + 1
        if end > count:
            raise ValueError("a run leads beyond the image")
        values[done:end] = read(_WORD) if repeated else [read(_WORD) for _ in range(end - done)]
        done = end
    return values.reshape(height, width, _CHANNELS)[..., -1] > 0
