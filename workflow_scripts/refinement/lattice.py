"""The permutohedral lattice: sparse high-dimensional Gaussian filtering.

Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010. Features are
elevated onto the hyperplane x₀ + … + x_d = 0 of d + 1 dimensions, in which the lattice's vertices are points
of integers all congruent modulo d + 1 (their remainder; section 4). A point lies in a simplex of d + 1 such
vertices. Filtering splats values onto them with barycentric weights, blurs them along the lattice's d + 1
axes and slices them back.

A vertex is known by the first d of its coordinates (all d + 1 add up to 0), packed into one integer in a
mixed radix wide enough for the image at hand.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from workflow_scripts.storage.compiled import compiled

BLOCK = 128
ABSENT = np.int32(-1)
NO_KEY = np.int64(-(2**63))
KEY_LIMIT = 2**62
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(24)
SPARSITY = 2
MOST_AT_FIRST = 1 << 18
LARGE_PAGE = 2 << 20
SMALLEST_MASS = np.float32(1e-20)


def large_page_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An uninitialised array that begins with a large page; memory not touched is not used.

    Tables of vertices are read in an order that a processor's address cache cannot follow on pages of
    4 KiB; in virtual machines that costs more than the reading itself. NumPy asks the system for large
    pages in allocations from 4 MiB on.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(max(size, LARGE_PAGE) + LARGE_PAGE, np.uint8)
    skip = -room.ctypes.data % LARGE_PAGE
    return room[skip : skip + size].view(dtype).reshape(shape)


def _elevation(d: int) -> NDArray[np.float32]:
    """Scales float32[d] of features before the rotation onto the hyperplane.

    With them the blur of the lattice has variance 1 in every feature.
    """
    axis = np.arange(1, d + 1, dtype=np.float64)
    return (np.sqrt(2.0 / 3.0) * (d + 1) / np.sqrt(axis * (axis + 1))).astype(np.float32)


@compiled
def _embed(features, start, count, scale, base, residual, corner, rank, packed):  # type: ignore[no-untyped-def]
    """The remainder-0 vertex of a block of points' simplices and the order of their residuals.

    Works coordinate by coordinate, so that the loops over points become vector code.

    Args:
        features: float32[d, N].
        start, count: The block's points, at most BLOCK.
        scale: float32[d], from `_elevation`.
        base: d + 1 place values, a tuple.
        residual: Filled, float32[d + 1, BLOCK], elevated point minus vertex, in units of d + 1.
        corner: Filled, int32[d + 1, BLOCK], the vertex.
        rank: Filled, int32[d + 1, BLOCK], 0 for the largest residual to d for the smallest.
        packed: Filled, int64[BLOCK], the vertex in place values.
    """
    d = features.shape[0]
    total = residual[0]
    surplus = np.zeros(BLOCK, np.int32)
    down = np.float32(1.0 / (d + 1))
    for b in range(count):
        total[b] = 0
        packed[b] = 0
    for j in range(d, 0, -1):
        row = features[j - 1]
        out = residual[j]
        factor = scale[j - 1]
        lift = np.float32(j)
        for b in range(count):
            c = row[start + b] * factor
            out[b] = total[b] - lift * c
            total[b] += c
    for i in range(d + 1):
        e, near, r = residual[i], corner[i], rank[i]
        for b in range(count):
            nearest = np.int32(np.floor(down * e[b] + np.float32(0.5)))
            near[b] = nearest * np.int32(d + 1)
            surplus[b] += nearest
            e[b] -= np.float32(near[b])
            r[b] = 0
    for i in range(d):
        for j in range(i + 1, d + 1):
            left, right, ri, rj = residual[i], residual[j], rank[i], rank[j]
            for b in range(count):
                smaller = np.int32(left[b] < right[b])
                ri[b] += smaller
                rj[b] += np.int32(1) - smaller
    for i in range(d + 1):
        e, near, r, place = residual[i], corner[i], rank[i], base[i]
        for b in range(count):
            k = r[b] + surplus[b]
            turn = np.int32(d + 1) * (np.int32(k < 0) - np.int32(k > d))
            r[b] = k + turn
            near[b] += turn
            e[b] = (e[b] - np.float32(turn)) * down
            packed[b] += near[b] * place


class TooFine(ValueError):
    """Points spread over more of the lattice than packed keys can tell apart."""


def _mixed_radix(low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[int, ...]:
    """Place values that give every vertex and every neighbour of one a key of its own.

    Args:
        low, high: float32[d], the range of every feature.

    Returns:
        d + 1 integers, the last one 0.

    Raises:
        TooFine: The coordinates span more than an int64 can tell apart.
    """
    d = low.size
    least, most = (bound.astype(np.float64) * _elevation(d) for bound in (low, high))
    base = []
    place, largest = 1, 0
    for i in range(d):
        bottom = least[i:].sum() - (i * most[i - 1] if i else 0.0)
        top = most[i:].sum() - (i * least[i - 1] if i else 0.0)
        base.append(place)
        largest += place * (int(max(abs(bottom), abs(top))) + 8 * (d + 1))
        place *= int(top - bottom) + 8 * (d + 1)
        if max(place, largest) >= KEY_LIMIT:
            raise TooFine
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
        residual, rank, packed: What `_embed` filled.
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
        _embed(features, start, end - start, scale, base, residual, corner, rank, packed)
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
    table = large_page_array((SPARSITY * room,), np.int32)
    slots = large_page_array((room,), np.int32)
    table[:] = ABSENT
    slots[:] = ABSENT
    keys = large_page_array((room,), np.int64)
    return table, keys, slots, large_page_array((room // 4, 1 << (d + 1)), np.int32)


def _number_vertices(
    features: NDArray[np.float32],
    base: tuple[int, ...],
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Fill vertices and barycentric weights; vertices are numbered by first appearance.

    Args:
        features: float32[d, N].
        base: From `_mixed_radix`.
        vertices: Filled, int32[N, d + 1], numbers from 0.
        weights: Filled, float32[N, d + 1].

    Returns:
        int64[M], the key of each number.
    """
    d, n = features.shape
    scale = _elevation(d)
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
def _find_neighbours(keys, base):  # type: ignore[no-untyped-def]
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


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice over N points with d features.

    Splatted values lie in a table in the order in which points meet the vertices, so that points that
    are near use rows that are near. The blur sorts them by key, so that neighbours are near.

    Attributes:
        vertices: int32[N, d + 1], the table's rows of the vertices around each point.
        weights: float32[N, d + 1], barycentric weights; each row adds up to 1.
        rows: int32[M], the table's row of each vertex in sorted order.
        neighbours: int32[d + 1, M, 2], the two neighbours of each sorted vertex along each axis,
            counted from 1; 0 where there is none.
        first: The table's first row that belongs to this lattice.
    """

    vertices: NDArray[np.int32]
    weights: NDArray[np.float32]
    rows: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    first: int

    @property
    def size(self) -> int:
        """Number of vertices M."""
        return self.rows.size

    @property
    def gain(self) -> float:
        """Factor that the blur lacks to be a Gaussian's (Adams et al. 2010, section 4)."""
        return 1.0 / (1.0 + 2.0 ** (1 - self.vertices.shape[1]))


def build(features: NDArray[np.float32], first: int = 0, padded: int | None = None) -> Lattice:
    """The lattice of N points; the Gaussian has standard deviation 1 in every feature.

    Args:
        features: float32[d, N].
        first: Row that the vertices' part of the table begins with.
        padded: Number of points to leave room for; the added ones weigh nothing.

    Raises:
        TooFine: The points spread over more of the lattice than its vertices can be told apart in.
    """
    d, n = features.shape
    vertices = np.full((padded or n, d + 1), first, np.int32)
    weights = np.zeros((padded or n, d + 1), np.float32)
    base = _mixed_radix(features.min(axis=1), features.max(axis=1))
    keys = _number_vertices(features, base, vertices[:n], weights[:n])
    rows = np.argsort(keys)
    neighbours = _find_neighbours(keys[rows], base)
    vertices[:n] += np.int32(first)
    return Lattice(vertices, weights, (rows + first).astype(np.int32), neighbours, first)


@compiled
def _blur_column(table, rows, neighbours, first):  # type: ignore[no-untyped-def]
    """Blur a table float32[M] of one column along all axes, in place."""
    m = rows.size
    here = np.zeros(m + 1, np.float32)
    there = np.zeros(m + 1, np.float32)
    half = np.float32(0.5)
    for v in range(m):
        here[v + 1] = table[rows[v] - first]
    for j in range(neighbours.shape[0]):
        for v in range(m):
            pair = here[neighbours[j, v, 0]] + here[neighbours[j, v, 1]]
            there[v + 1] = here[v + 1] + half * pair
        here, there = there, here
    for v in range(m):
        table[rows[v] - first] = here[v + 1]


@compiled
def _normalise(vertices, weights, rows, neighbours, first, count, gain):  # type: ignore[no-untyped-def]
    """See `normalise`; `count` points are real, the others only fill the last block."""
    n, corners = vertices.shape
    once = np.zeros(rows.size, np.float32)
    twice = np.zeros(rows.size, np.float32)
    for p in range(count):
        for r in range(corners):
            once[vertices[p, r] - first] += weights[p, r]
    _blur_column(once, rows, neighbours, first)
    for p in range(count):
        mass = np.float32(0.0)
        for r in range(corners):
            mass += weights[p, r] * once[vertices[p, r] - first]
        norm = np.float32(1.0) / np.sqrt(mass * gain + SMALLEST_MASS)
        for r in range(corners):
            weights[p, r] *= norm
            twice[vertices[p, r] - first] += weights[p, r]
    _blur_column(twice, rows, neighbours, first)
    constant = np.zeros(n, np.float32)
    for p in range(count):
        total = np.float32(0.0)
        for r in range(corners):
            total += weights[p, r] * twice[vertices[p, r] - first]
        constant[p] = total * gain
    return constant


def normalise(lattice: Lattice, count: int) -> np.ndarray:
    """Make a lattice's kernel symmetrically normalised (Krähenbühl & Koltun 2011, supplement).

    Its weights are divided, in place, by the square root of the filtered constant 1.

    Args:
        lattice: With barycentric weights.
        count: Points that are real; the others fill the last block and stay without weight.

    Returns:
        float32[N], the constant 1 filtered by the normalised kernel.
    """
    parts = (lattice.vertices, lattice.weights, lattice.rows, lattice.neighbours, lattice.first)
    return _normalise(*parts, count, np.float32(lattice.gain))
