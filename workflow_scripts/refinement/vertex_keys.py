"""Numbering the lattice's vertices around points by packed integer keys.

A vertex is known by the first d of its coordinates (all d + 1 add up to 0), packed into one integer in
a mixed radix wide enough for the image at hand.
"""

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.refinement import large_pages
from workflow_scripts.refinement.simplices import BLOCK, elevation, embed
from workflow_scripts.storage.compiled import compiled

ABSENT = np.int32(-1)
NO_KEY = np.int64(-(2**63))
KEY_LIMIT = 2**62
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(24)
SPARSITY = 2
MOST_AT_FIRST = 1 << 18


def mixed_radix(low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[int, ...] | None:
    """Place values that give every vertex and every neighbour of one a key of its own.

    Args:
        low, high: float32[d], the range of every feature.

    Returns:
        d + 1 integers, the last one 0; None if the coordinates span more than an int64 can tell apart.
    """
    d = low.size
    least, most = (bound.astype(np.float64) * elevation(d) for bound in (low, high))
    base = []
    place, largest = 1, 0
    for i in range(d):
        bottom = least[i:].sum() - (i * most[i - 1] if i else 0.0)
        top = most[i:].sum() - (i * least[i - 1] if i else 0.0)
        base.append(place)
        largest += place * (int(max(abs(bottom), abs(top))) + 8 * (d + 1))
        place *= int(top - bottom) + 8 * (d + 1)
        if max(place, largest) >= KEY_LIMIT:
            return None
    return (*base, 0)


@compiled
def _number(key, table, keys, counts):  # type: ignore[no-untyped-def]
    """The number of a vertex; the next one if it is new.

    Args:
        key: The vertex.
        table: int32[2^k], open addressing: numbers, or ABSENT.
        keys: int64, the key of each number.
        counts: int64[2], the first one: how many numbers are given.
    """
    mask = np.uint64(table.size - 1)
    at = ((np.uint64(key) * MULTIPLIER) >> SHIFT) & mask
    number = table[at]
    while number != ABSENT:
        if keys[number] == key:
            return number
        at = (at + np.uint64(1)) & mask
        number = table[at]
    number = np.int32(counts[0])
    table[at] = number
    keys[number] = key
    counts[0] += 1
    return number


@compiled
def _number_block(  # type: ignore[no-untyped-def]
    residual, rank, packed, base, table, keys, slots, reached, counts, vertices, weights
):
    """Weights and vertex numbers of one block; new vertices are numbered in order.

    The table of keys is asked only once for a remainder-0 vertex and the set of coordinates that a
    simplex has lowered since; `reached` remembers the answers.

    Args:
        residual, rank, packed: What `embed` filled.
        base: The mixed radix, a tuple of d + 1 integers.
        table, keys: See `_number`.
        slots: int32[keys], a remainder-0 vertex's row in `reached`, or ABSENT.
        reached: int32[rows, 2^(d + 1)], the vertex for each set of lowered coordinates, or ABSENT.
        counts: int64[2], vertices and rows of `reached` in use.
        vertices, weights: Filled, [points, d + 1].
    """
    d1 = len(base)
    d = d1 - 1
    step = sum(base)
    ordered = np.empty(d1, np.float32)
    coordinate = np.empty(d1, np.int64)
    origin, slot = NO_KEY, np.int32(0)
    for b in range(vertices.shape[0]):
        for i in range(d1):
            ordered[rank[i, b]] = residual[i, b]
            coordinate[rank[i, b]] = i
        weights[b, 0] = np.float32(1.0) + ordered[d] - ordered[0]
        for r in range(1, d1):
            weights[b, r] = ordered[d - r] - ordered[d - r + 1]
        key = packed[b]
        if key != origin:
            origin = key
            vertex = _number(key, table, keys, counts)
            slot = slots[vertex]
            if slot == ABSENT:
                slot = np.int32(counts[1])
                slots[vertex] = slot
                counts[1] += 1
                for down in range(reached.shape[1]):
                    reached[slot, down] = ABSENT
                reached[slot, 0] = vertex
        vertices[b, 0] = reached[slot, 0]
        lowered = 0
        for r in range(1, d1):
            last = coordinate[d1 - r]
            lowered |= 1 << last
            key += step - d1 * base[last]
            vertex = reached[slot, lowered]
            if vertex == ABSENT:
                vertex = _number(key, table, keys, counts)
                reached[slot, lowered] = vertex
            vertices[b, r] = vertex


@compiled
def _number_from(  # type: ignore[no-untyped-def]
    begin, features, scale, base, table, keys, slots, reached, counts, vertices, weights
):
    """Number block after block from point `begin` on, until a table might not hold the next.

    Returns:
        Where it stopped: N at the end.
    """
    d, n = features.shape
    residual = np.empty((d + 1, BLOCK), np.float32)
    corner = np.empty((d + 1, BLOCK), np.int32)
    rank = np.empty((d + 1, BLOCK), np.int32)
    packed = np.empty(BLOCK, np.int64)
    for start in range(begin, n, BLOCK):
        if counts[0] + BLOCK * (d + 1) > keys.size or counts[1] + BLOCK > reached.shape[0]:
            return start
        end = min(start + BLOCK, n)
        embed(features, start, end - start, scale, base, residual, corner, rank, packed)
        rows, shares = vertices[start:end], weights[start:end]
        _number_block(
            residual, rank, packed, base, table, keys, slots, reached, counts, rows, shares
        )
    return n


@compiled
def _number_again(known, table, keys, counts):  # type: ignore[no-untyped-def]
    """Enter keys in the order of their numbers into a larger table."""
    for i in range(known.size):
        _number(known[i], table, keys, counts)


def _tables(room: int, d: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Table, keys, slots and reached for `room` vertices; see `_number_block`."""
    table = large_pages.empty((SPARSITY * room,), np.int32)
    slots = large_pages.empty((room,), np.int32)
    table[:] = ABSENT
    slots[:] = ABSENT
    keys = large_pages.empty((room,), np.int64)
    return table, keys, slots, large_pages.empty((room // 4, 1 << (d + 1)), np.int32)


def number_vertices(
    features: NDArray[np.float32],
    base: tuple[int, ...],
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Fill vertices and barycentric weights; vertices are numbered by first appearance.

    Args:
        features: float32[d, N].
        base: From `mixed_radix`.
        vertices: Filled, int32[N, d + 1], numbers from 0.
        weights: Filled, float32[N, d + 1].

    Returns:
        int64[M], the key of each number.
    """
    d, n = features.shape
    scale = elevation(d)
    counts = np.zeros(2, np.int64)
    room = 1 << max(min(n, MOST_AT_FIRST), 4 * BLOCK * (d + 1)).bit_length()
    tables = _tables(room, d)
    begin = 0
    while True:
        begin = _number_from(begin, features, scale, base, *tables, counts, vertices, weights)
        _, keys, slots, reached = tables
        count, used = counts
        if begin == n:
            return keys[:count]
        room *= 2
        tables = _tables(room, d)
        _number_again(keys[:count], tables[0], tables[1], np.zeros(2, np.int64))
        tables[2][:count] = slots[:count]
        tables[3][:used] = reached[:used]


@compiled
def find_neighbours(keys, base):  # type: ignore[no-untyped-def]
    """The two neighbours of every vertex along every axis, int32[d + 1, M, 2], counted from 1.

    Keys are sorted, so that a neighbour's key moves along with the vertex's: no search is needed.

    Args:
        keys: int64[M], ascending.
        base: The mixed radix, a tuple of d + 1 integers.
    """
    d1 = len(base)
    step = sum(base)
    count = keys.size
    neighbours = np.zeros((d1, count, 2), np.int32)
    for j in range(d1):
        offset = d1 * base[j] - step
        other = 0
        for v in range(count):
            wanted = keys[v] + offset
            while other < count and keys[other] < wanted:
                other += 1
            if other < count and keys[other] == wanted:
                neighbours[j, v, 0] = other + 1
                neighbours[j, other, 1] = v + 1
    return neighbours
