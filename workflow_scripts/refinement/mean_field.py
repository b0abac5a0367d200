"""Mean-field inference in a dense CRF (Krähenbühl & Koltun 2011, algorithm 1), for one image.

What makes it fast:

- Marginals add up to 1, and filters are linear: the message of the last label follows from those of
  the others and from the filtered constant 1. So a table holds one column less a problem.
- Normalisation is part of the weights, compatibility of the blur's last pass.
- Slicing, softmax and splatting are one pass over the points, a block in the cache at a time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.refinement import large_pages
from workflow_scripts.refinement.permutohedral import Lattice
from workflow_scripts.refinement.simd import (
    add,
    divide,
    exp,
    filled,
    load,
    maximum,
    multiply,
    scale,
    store,
    subtract,
    transpose,
)
from workflow_scripts.refinement.simplices import BLOCK
from workflow_scripts.storage.compiled import compiled

WIDEST = 24
STRIP = (0,) * 16
ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LOWEST = np.float32(-3e38)


@compiled
def _softmax(messages, prior, first, constant, at, problems, labels, last):  # type: ignore[no-untyped-def]
    """Messages of all labels but the last become marginals, in place, for one block.

    Args:
        messages: float32[P·(L − 1), BLOCK], flat.
        prior: float32[blocks, P·L, BLOCK], flat; the block's begins at `first`.
        constant: float32, the messages if all marginals were 1; the block's begins at `at`.
        problems, labels: P and L.
        last: Whether to write all L marginals over `prior`.
    """
    for q in range(problems):
        ours = q * (labels - 1) * BLOCK
        theirs = first + q * labels * BLOCK
        others = (labels - 1) * BLOCK
        for b in range(0, BLOCK, len(STRIP)):
            rest = add(load(prior, theirs + others + b, STRIP), load(constant, at + b, STRIP))
            peak = filled(LOWEST, STRIP)
            for c in range(b, others, BLOCK):
                x = load(messages, ours + c, STRIP)
                rest = subtract(rest, x)
                x = add(x, load(prior, theirs + c, STRIP))
                store(messages, ours + c, x)
                peak = maximum(peak, x)
            peak = maximum(peak, rest)
            rest = exp(subtract(rest, peak))
            total = rest
            for c in range(b, others, BLOCK):
                x = exp(subtract(load(messages, ours + c, STRIP), peak))
                store(messages, ours + c, x)
                total = add(total, x)
            share = divide(filled(ONE, STRIP), total)
            for c in range(b, others, BLOCK):
                x = multiply(load(messages, ours + c, STRIP), share)
                store(messages, ours + c, x)
                if last:
                    store(prior, theirs + c, x)
            if last:
                store(prior, theirs + others + b, multiply(rest, share))


@compiled
def _gather(table, va, wa, vb, wb, near, far, width, start, points):  # type: ignore[no-untyped-def]
    """Slice the values of a block: rows of `table` to rows of `points`; see `_sweep`."""
    lanes = len(width)
    for b in range(BLOCK):
        p = start + b
        value = filled(ZERO, width)
        for r in range(len(near)):
            value = add(value, scale(wa[p, r], load(table, va[p, r] * lanes, width)))
        for r in range(len(far)):
            value = add(value, scale(wb[p, r], load(table, vb[p, r] * lanes, width)))
        store(points, b * lanes, value)


@compiled
def _scatter(table, va, wa, vb, wb, near, far, width, start, points):  # type: ignore[no-untyped-def]
    """Splat the values of a block: rows of `points` onto rows of `table`; see `_sweep`."""
    lanes = len(width)
    for b in range(BLOCK):
        p = start + b
        value = load(points, b * lanes, width)
        for r in range(len(near)):
            v = va[p, r] * lanes
            store(table, v, add(load(table, v, width), scale(wa[p, r], value)))
        for r in range(len(far)):
            v = vb[p, r] * lanes
            store(table, v, add(load(table, v, width), scale(wb[p, r], value)))


@compiled
def _sweep(  # type: ignore[no-untyped-def]
    va, wa, vb, wb, near, far, width, source, target, prior, constant, shape, first, last
):
    """One update of all marginals; `first`: no messages yet, `last`: none to send.

    Args:
        va, wa: Vertices int32 and weights float32 [points, near] of the first lattice.
        vb, wb: The same [points, far] of the second.
        near, far, width: Tuples as long as a point has vertices in either lattice and as a row of a
            table has columns: compiled code is made for these lengths.
        source, target: float32[tables, rows · columns], read and added to.
        prior: float32[blocks · P · L · BLOCK].
        constant: float32[blocks · BLOCK].
        shape: P and L.
    """
    problems, labels = shape
    tables, lanes = source.shape[0], len(width)
    points = np.zeros(BLOCK * lanes, np.float32)
    columns = np.zeros(tables * lanes * BLOCK, np.float32)
    nothing = np.zeros(BLOCK, np.float32)
    for k in range(constant.size // BLOCK):
        start = k * BLOCK
        block = start * problems * labels
        message, at = constant, start
        if first:
            message, at = nothing, 0
            for i in range(columns.size):
                columns[i] = 0
        else:
            for t in range(tables):
                _gather(source[t], va, wa, vb, wb, near, far, width, start, points)
                for c in range(0, lanes, 4):
                    to = (t * lanes + c) * BLOCK
                    for b in range(0, BLOCK, 4):
                        transpose(points, b * lanes + c, lanes, columns, to + b, BLOCK)
        _softmax(columns, prior, block, message, at, problems, labels, last)
        if last:
            continue
        for t in range(tables):
            for c in range(0, lanes, 4):
                origin = (t * lanes + c) * BLOCK
                for b in range(0, BLOCK, 4):
                    transpose(columns, origin + b, BLOCK, points, b * lanes + c, lanes)
            _scatter(target[t], va, wa, vb, wb, near, far, width, start, points)


@compiled
def _blur(rows, neighbours, tables, here, there, factor, width):  # type: ignore[no-untyped-def]
    """Blur a lattice's part of the tables along all axes, in place, and multiply by `factor`.

    Args:
        rows, neighbours: Of the lattice.
        tables: float32[tables, rows · columns].
        here, there: float32[> M · columns], room to work in, zeros in the first row.
        factor: float32.
        width: A tuple as long as a row has columns.
    """
    half = np.float32(0.5)
    lanes = len(width)
    last = neighbours.shape[0] - 1
    for t in range(tables.shape[0]):
        table = tables[t]
        for v in range(rows.size):
            store(here, (v + 1) * lanes, load(table, rows[v] * lanes, width))
        for j in range(last + 1):
            for v in range(rows.size):
                left = load(here, neighbours[j, v, 0] * lanes, width)
                right = load(here, neighbours[j, v, 1] * lanes, width)
                centre = load(here, (v + 1) * lanes, width)
                value = add(centre, scale(half, add(left, right)))
                if j == last:
                    store(table, rows[v] * lanes, scale(factor, value))
                else:
                    store(there, (v + 1) * lanes, value)
            here, there = there, here


@compiled
def _pack(unary, order, prior):  # type: ignore[no-untyped-def]
    """Negated unary float32[P·L, N] in blocks [blocks, P·L, BLOCK], points in the given order."""
    rows, n = unary.shape
    for k in range(prior.shape[0]):
        count = min(BLOCK, n - k * BLOCK)
        for c in range(rows):
            for b in range(count):
                prior[k, c, b] = -unary[c, order[k * BLOCK + b]]
            for b in range(count, BLOCK):
                prior[k, c, b] = 0


@compiled
def _unpack(prior, order, out):  # type: ignore[no-untyped-def]
    """The reverse of packing, without the sign."""
    rows, n = out.shape
    for k in range(prior.shape[0]):
        for c in range(rows):
            for b in range(min(BLOCK, n - k * BLOCK)):
                out[c, order[k * BLOCK + b]] = prior[k, c, b]


def infer(
    unary: NDArray[np.float32],
    order: NDArray[np.int32],
    kernels: Sequence[tuple[Lattice, NDArray[np.float32], float]],
    iterations: int,
) -> NDArray[np.float32]:
    """Marginals after mean-field iterations.

    Args:
        unary: float32[P, L, N], negative log likelihoods of P problems over the same points.
        order: int32[N], the order of points in the lattices.
        kernels: One or two of: lattice whose weights are normalised, the filtered constant 1
            float32[padded N], compatibility. Points are padded to whole blocks.
        iterations: How often messages are passed.

    Returns:
        float32[P, L, N].
    """
    problems, labels, n = unary.shape
    columns = problems * (labels - 1)
    out = np.empty((problems * labels, n), np.float32)
    blocks = -(-n // BLOCK)
    prior = np.empty((blocks, problems * labels, BLOCK), np.float32)
    _pack(unary.reshape(problems * labels, n), order, prior)
    count = max(1, -(-columns // WIDEST))
    lanes = max(4, -(-columns // (count * 4)) * 4)
    rows = size = 1
    constant = np.zeros(blocks * BLOCK, np.float32)
    sides = []
    for lattice, one, compat in kernels if iterations else ():
        rows = max(rows, lattice.first + lattice.size)
        size = max(size, lattice.size)
        constant += np.float32(compat) * one
        sides.append((lattice.vertices, lattice.weights))
    while len(sides) < 2:
        sides.append((np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32)))
    (va, wa), (vb, wb) = sides
    near, far, width = ((0,) * length for length in (va.shape[1], vb.shape[1], lanes))
    here = large_pages.empty((count, rows * lanes), np.float32)
    there = large_pages.empty((count, rows * lanes), np.float32)
    room = large_pages.empty((2, (size + 1) * lanes), np.float32)
    there[:] = 0
    room[:, :lanes] = 0
    flat, shape = prior.reshape(-1), (problems, labels)
    for turn in range(iterations + 1):
        last = turn == iterations
        _sweep(
            *(va, wa, vb, wb, near, far, width),
            *(here, there, flat, constant, shape, turn == 0, last),
        )
        if last:
            break
        here, there = there, here
        for lattice, _, compat in kernels:
            factor = np.float32(compat * lattice.gain)
            _blur(lattice.rows, lattice.neighbours, here, *room, factor, width)
        there[:] = 0
    _unpack(prior, order, out)
    return out.reshape(problems, labels, n)
