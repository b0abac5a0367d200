"""Maps of several scales as one array of cells, and enlarged and added up."""

import numpy as np

from workflow_scripts.storage.enlargement import add_resized

Maps = tuple[np.ndarray, ...]
"""float32 [k, h, w] of each scale."""


def join_scales(maps: Maps) -> tuple[np.ndarray, np.ndarray]:
    """Lay the maps of all scales row by row, one scale after another.

    Returns:
        float32 [k, n], and uint16 [scales, 2]: rows and columns of each scale's map.
    """
    flat = [one.reshape(len(one), np.prod(one.shape[1:])) for one in maps]
    return np.concatenate(flat, axis=1), np.array([one.shape[1:] for one in maps], np.uint16)


def split_scales(cells: np.ndarray, sizes: np.ndarray) -> Maps:
    """Undo `join_scales`; raises ValueError when cells and sizes do not fit."""
    shapes = [(int(rows), int(columns)) for rows, columns in sizes]
    lengths = [rows * columns for rows, columns in shapes]
    if sum(lengths) != cells.shape[1]:
        raise ValueError(f"{cells.shape[1]} cells for maps of {shapes}")
    split = np.split(cells, np.cumsum(lengths)[:-1], axis=1)
    return tuple(
        part.reshape(len(cells), *shape) for part, shape in zip(split, shapes, strict=True)
    )


def add_scales(maps: Maps, height: int, width: int) -> np.ndarray:
    """Enlarge the maps of all scales bilinearly to one size and add them up, float32 [k, height, width]."""
    total = np.zeros((len(maps[0]), height, width), np.float32)
    for one in maps:
        add_resized(one, total)
    return total
