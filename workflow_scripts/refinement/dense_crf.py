"""Dense CRF over an image: label evidence made to agree with positions and colours.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011:
two Gaussian kernels (equation 3), each a lattice, Potts compatibility, symmetric normalisation, mean-field
inference (algorithm 1). It computes on the processor whatever the networks compute on, so that masks do
not depend on the device.

What makes it fast:

- Marginals add up to 1, and filters are linear: the message of the last label follows from those of
  the others and from the filtered constant 1. So a table holds one column less a problem.
- Normalisation is part of the weights, compatibility of the blur's last pass.
- Slicing, softmax and splatting are one pass over the points, a block in the cache at a time.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.errors import InputError
from workflow_scripts.refinement.lattice import (
    BLOCK,
    Lattice,
    TooFine,
    build,
    large_page_array,
    normalise,
)
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
from workflow_scripts.settings.refinement import CrfSettings
from workflow_scripts.storage.compiled import compiled

TILE = 32
CACHED_SIZES = 8
CACHED_PIXELS = 1 << 20
WIDEST = 24
STRIP = (0,) * 16
ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LOWEST = np.float32(-3e38)
SMALLEST_PROBABILITY = 1e-5

Kernel = tuple[Lattice, NDArray[np.float32]]


@lru_cache(maxsize=CACHED_SIZES)
def _tile_order(height: int, width: int) -> NDArray[np.int32]:
    """Pixels tile by tile, int32[H·W]: neighbours in a tile share vertices that stay in the cache."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    return np.lexsort((x, y, x // TILE, y // TILE)).astype(np.int32)


def _normalised(features: NDArray[np.float32], first: int) -> Kernel:
    """The lattice with symmetric normalisation in its weights, and the filtered constant 1."""
    n = features.shape[1]
    lattice = build(features, first, padded=-(-n // BLOCK) * BLOCK)
    return lattice, normalise(lattice, n)


def _place(order: NDArray[np.int32], width: int, sxy: float) -> NDArray[np.float32]:
    y, x = np.divmod(order, np.int32(width))
    return np.stack([x, y]).astype(np.float32) / np.float32(sxy)


@lru_cache(maxsize=CACHED_SIZES)
def _spatial(height: int, width: int, sxy: float) -> Kernel:
    """The kernel over positions: the same for every image of a size."""
    return _normalised(_place(_tile_order(height, width), width, sxy), 0)


def _image_kernels(
    image: NDArray[np.uint8], settings: CrfSettings
) -> tuple[NDArray[np.int32], list[tuple[Lattice, NDArray[np.float32], float]]]:
    """Order of the pixels and the kernels that are on, which none is without iterations.

    Args:
        image: uint8[H, W, 3].
        settings: Standard deviations and compatibilities; a compatibility of 0 turns a kernel off.

    Returns:
        int32[H·W], and (lattice, filtered constant 1, compatibility) of each kernel.
    """
    height, width = image.shape[:2]
    order = _tile_order(height, width)
    kernels = []
    first = 0
    if settings.iterations and settings.gaussian_compat:
        # Of a large image the lattice is too much memory to keep.
        spatial = _spatial if order.size <= CACHED_PIXELS else _spatial.__wrapped__
        kernel = spatial(height, width, settings.gaussian_sxy)
        first = kernel[0].size
        kernels.append((*kernel, settings.gaussian_compat))
    if settings.iterations and settings.bilateral_compat:
        features = np.empty((5, order.size), np.float32)
        features[:2] = _place(order, width, settings.bilateral_sxy)
        features[2:] = image.reshape(-1, 3)[order].T
        features[2:] /= np.float32(settings.bilateral_srgb)
        kernels.append((*_normalised(features, first), settings.bilateral_compat))
    return order, kernels


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
def _blur_tables(rows, neighbours, tables, here, there, factor, width):  # type: ignore[no-untyped-def]
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


def _infer(
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
    for lattice, one, compat in kernels:
        rows = max(rows, lattice.first + lattice.size)
        size = max(size, lattice.size)
        constant += np.float32(compat) * one
        sides.append((lattice.vertices, lattice.weights))
    while len(sides) < 2:
        sides.append((np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32)))
    (va, wa), (vb, wb) = sides
    near, far, width = ((0,) * length for length in (va.shape[1], vb.shape[1], lanes))
    here = large_page_array((count, rows * lanes), np.float32)
    there = large_page_array((count, rows * lanes), np.float32)
    room = large_page_array((2, (size + 1) * lanes), np.float32)
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
            _blur_tables(lattice.rows, lattice.neighbours, here, *room, factor, width)
        there[:] = 0
    _unpack(prior, order, out)
    return out.reshape(problems, labels, n)


def unary_from_labels(
    labels: NDArray[np.integer], n_labels: int, gt_prob: float = 0.7
) -> NDArray[np.float32]:
    """Unary of hard labels that are right with probability `gt_prob`.

    Args:
        labels: int[H, W], values 0…n_labels - 1.
        n_labels: Number of labels L.
        gt_prob: Probability of the given label; the others share the rest evenly.

    Returns:
        float32[L, H, W], negative log probabilities.

    Raises:
        InputError: If a label or `gt_prob` is out of range.
    """
    labels = np.asarray(labels)
    if not 0 < gt_prob < 1:
        raise InputError(f"gt_prob: expected a probability between 0 and 1, got {gt_prob}")
    if n_labels < 1:
        raise InputError(f"n_labels: expected at least 1, got {n_labels}")
    if labels.size and not (labels.min() >= 0 and labels.max() < n_labels):
        raise InputError(
            f"labels: expected values 0…{n_labels - 1}, got {labels.min()}…{labels.max()}"
        )
    rest = -np.log((1 - gt_prob) / (n_labels - 1)) if n_labels > 1 else 0.0
    unary = np.full((n_labels, *labels.shape), rest, np.float32)
    np.put_along_axis(unary, labels[None].astype(np.int64), np.float32(-np.log(gt_prob)), axis=0)
    return unary


def unary_from_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unary of class probabilities: −log p, with p at least 1e-5.

    Args:
        probabilities: float[L, H, W], adding up to 1 over L.

    Returns:
        float32[L, H, W].
    """
    return -np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0)).astype(np.float32)


def refine(
    image: NDArray[np.uint8], unary: ArrayLike, settings: CrfSettings
) -> NDArray[np.float32]:
    """Marginals of a dense CRF over one image; P problems share the image's kernels.

    Thread-safe: one call works on one thread and releases the interpreter lock.

    Args:
        image: uint8[H, W, 3].
        unary: float[L, H, W] or float[P, L, H, W], negative log probabilities.
        settings: Kernels and iterations.

    Returns:
        float32, the shape of `unary`; adds up to 1 over L.

    Raises:
        InputError: If shapes disagree, the unary holds NaN or infinity, or the standard deviations are
            too small for an image of this size.
    """
    image = np.asarray(image)
    unary = np.asarray(unary, np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"image: expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    if unary.ndim not in (3, 4) or unary.shape[-2:] != image.shape[:2] or not unary.size:
        raise InputError(
            "unary: expected [L, H, W] or [P, L, H, W] with the height and width of the image "
            f"{list(image.shape)}, got {list(unary.shape)}"
        )
    if not np.isfinite(unary).all():
        raise InputError("unary: holds NaN or infinity; clip probabilities before the logarithm")
    try:
        order, kernels = _image_kernels(image, settings)
    except TooFine:
        raise InputError(
            f"crf: standard deviations of {settings.gaussian_sxy:g}, {settings.bilateral_sxy:g} pixels and "
            f"{settings.bilateral_srgb:g} colour levels are too small for an image of {image.shape[1]}×"
            f"{image.shape[0]} pixels; give at least 1 for `gaussian_sxy`, `bilateral_sxy` and "
            "`bilateral_srgb`"
        ) from None
    problems = unary.reshape(-1, unary.shape[-3], order.size)
    return _infer(problems, order, kernels, settings.iterations).reshape(unary.shape)
