"""3x3 convolution of stride 1 with weights per task by Winograd's F(2x2, 3x3): 16 products where the direct sum has 36.

Every tile of 2x2 outputs sees a 4x4 patch d of the image; with the constant matrices below

    V = B' d B        U = G w G'        y = A' (sum over channels of V * U) A,

and for each of the 16 entries xi the product, summed over channels, is a matrix product of tiles by outputs. The
gradients are the same maps read the other way: by the images a convolution with the weights turned round, by the
weights G' (sum over tiles of V * (A g A')) G. (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
Networks".)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.cover import SPARE, VECTOR_BYTES, make_cover, padded_columns, positions
from minimeta_kernels.numba_cpu.product import padded, transpose
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.reference.convolution import Pads, Pair, output_shape

Matrix = tuple[tuple[float, ...], ...]

_B: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B'
_G: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_A: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))  # A'

#: Bytes of transformed patches and products that are worked on together: with the weights they fit the second cache.
_CHUNK = 1 << 19

#: Fewer tiles than this together do not repay reading all transformed weights.
_FEWEST = 48

#: With fewer tasks than this, a weight gradient is summed up from several parts of each task's tiles.
_MANY_TASKS = 8
_PARTS = 16

_cover = make_cover("product")


def make_transform(matrix: Matrix) -> Any:
    """The intrinsic that takes one vector of channels of a square tile s to `matrix` s `matrix`'.

    `transform(source, start, row_step, column_step, target, start, row_step, column_step)`: positions in numbers.
    """
    taps = range(len(matrix[0]))

    @intrinsic  # type: ignore[untyped-decorator]
    def transform(
        typing: Any, source: Any, source_start: Any, source_row: Any, source_column: Any,
        target: Any, target_start: Any, target_row: Any, target_column: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(source, *[types.intp] * 3, target, *[types.intp] * 3)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            number = context.get_value_type(sig.args[0].dtype)
            size = sig.args[0].dtype.bitwidth // 8
            vector = ir.VectorType(number, VECTOR_BYTES // size)

            def pointer(kind: Any, i: int, j: int, array: Any, start: Any, row_step: Any, column_step: Any) -> Any:
                data = context.make_array(kind)(context, builder, array).data
                for step, count in ((row_step, i), (column_step, j)):
                    start = builder.add(start, builder.mul(step, ir.Constant(step.type, count)))
                return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())

            def combine(row: tuple[float, ...], terms: list[Any]) -> Any:
                """sum_i row[i] terms[i], without the zeros and ones."""
                total = None
                for factor, term in zip(row, terms, strict=True):
                    if abs(factor) not in (0, 1):
                        term = builder.fmul(term, ir.Constant(vector, [abs(factor)] * vector.count))
                    if factor and total is None:
                        total = term if factor > 0 else builder.fneg(term)
                    elif factor:
                        total = (builder.fadd if factor > 0 else builder.fsub)(total, term)
                return total

            tile = [[builder.load(pointer(sig.args[0], i, j, *args[:4]), align=size) for i in taps] for j in taps]
            halves = [[combine(row, column) for column in tile] for row in matrix]
            for i, half in enumerate(halves):
                for j, row in enumerate(matrix):
                    builder.store(combine(row, half), pointer(sig.args[4], i, j, *args[4:]), align=size)
            return context.get_dummy_value()

        return signature, generate

    return transform


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


_weights_in, _weights_out = make_transform(_G), make_transform(_transposed(_G))
_products_out = make_transform(_A)


def pays(images: int, height: int, width: int, channels: int, outputs: int) -> bool:
    """Whether so many results of this height and width per task come faster this way than directly.

    Counted in multiplications per tile, at what a transform was measured to take in their place; that of the weights
    is shared by all tiles of a task.
    """
    tiles = _tiles(images, height, width)
    whole = padded_columns(channels, 4), padded_columns(outputs, 4)
    weights = 80 * channels * outputs / max(tiles, 1)
    ours = 16 * whole[0] * whole[1] + 100 * sum(whole) + 2000 + weights
    return 9 * images * height * width * channels * outputs > tiles * ours


def conv(x: Any, w: Any, pads: Pads) -> Any:
    """x [T, B, H, W, C], w [T, 3, 3, C, O] -> [T, B, H', W', O]."""
    y = np.empty((*output_shape(x.shape, (3, 3), (1, 1), pads), w.shape[-1]), x.dtype)
    _run(x, _whole_vectors(w, (4,)), y, (pads[0][0], pads[1][0]), False)
    return y


def conv_data(g: Any, w: Any, pads: Pads, size: Pair) -> Any:
    """The gradient by the images, for pads up to 2: g [T, B, H', W', O], w [T, 3, 3, C, O] -> [T, B, *size, C]."""
    gx = np.empty((*g.shape[:2], *size, w.shape[3]), g.dtype)
    _run(g, _whole_vectors(w, (3, 4)), gx, (2 - pads[0][0], 2 - pads[1][0]), True)
    return gx


def _run(x: Any, w: Any, y: Any, corner: Pair, turned: bool) -> None:
    """y = x convolved with w, or with w turned round and its channels and outputs exchanged."""
    if not y.size:
        return
    columns = padded_columns(y.shape[-1], y.itemsize)
    tiles = _tiles(*y.shape[1:4])
    at_once = _at_once(tiles, padded_columns(x.shape[-1], x.itemsize) + columns, x.itemsize)
    work = 32 * len(x) * tiles * x.shape[-1] * columns / PACE
    launch.parallel(_convolve, len(x) * -(-tiles // at_once), work, _images(x), w, _images(y), at_once, corner, turned)


def conv_weight(x: Any, g: Any, pads: Pads) -> Any:
    """The gradient by the weights: x [T, B, H, W, C], g [T, B, H', W', O] -> [T, 3, 3, C, O]."""
    tasks, channels, outputs = len(x), x.shape[-1], g.shape[-1]
    columns = padded_columns(outputs, g.itemsize)
    tiles = _tiles(*g.shape[1:4])
    # the parts depend on shapes alone, so that the order of summation does not depend on the threads
    parts = 1 if tasks >= _MANY_TASKS else max(1, min(_PARTS, tiles // _FEWEST))
    gw = np.zeros((tasks, parts, 3, 3, channels, columns), x.dtype)
    if x.size and g.size:
        at_once = _at_once(-(-tiles // parts), padded_columns(channels, x.itemsize) + columns, x.itemsize)
        work = 32 * tasks * tiles * channels * columns / PACE
        launch.parallel(_weight, tasks * parts, work, _images(x), _images(g), gw, at_once, (pads[0][0], pads[1][0]))
    return np.ascontiguousarray((gw[:, 0] if parts == 1 else gw.sum(axis=1))[..., :outputs])


def _images(a: Any) -> Any:
    """[T, B, ...] -> [T * B, ...]."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


def _whole_vectors(a: Any, axes: tuple[int, ...]) -> Any:
    """`a`, with zeros added until the axes are whole vectors."""
    ragged = [padded_columns(n, a.itemsize) - n if i in axes else 0 for i, n in enumerate(a.shape)]
    return np.pad(a, [(0, n) for n in ragged]) if any(ragged) else a


def _tiles(images: int, height: int, width: int) -> int:
    return images * (-(-height // 2)) * (-(-width // 2))


def _at_once(tiles: int, numbers: int, itemsize: int) -> int:
    """How many of a task's tiles are worked on together, with so many numbers each per xi: whole register tiles."""
    most = max(_FEWEST, _CHUNK // (16 * numbers * itemsize))
    chunks = -(-tiles // most)
    return -(-tiles // (chunks * SPARE)) * SPARE


def make_tiles_in(matrix: Matrix) -> Any:
    """The function `tiles_in(images, first, some, frame, corner, held, tiles, step)`.

    It puts `matrix` s `matrix`' of `some` tiles s, counted over all images, into tiles[xi * step + (p, c)]. The image
    they lie in is in the frame, at the corner, amid zeros; `held` is the number of the one that is there already, and
    the result is that of the one there now.
    """
    transform = make_transform(matrix)

    @inlined
    def tiles_in(
        images: Any, first: int, some: int, frame: Any, corner: Any, held: int, tiles: Any, step: int
    ) -> Any:  # fmt: skip
        down, across, channels = (frame.shape[0] - 2) // 2, (frame.shape[1] - 2) // 2, frame.shape[2]
        row = frame.shape[1] * channels
        for p in range(some):
            image, tile = divmod(first + p, down * across)
            i, j = divmod(tile, across)
            if held != image:
                held = image
                _fill(frame, images[image], corner)
            for c in range(0, channels, VECTOR_BYTES // frame.itemsize):
                transform(frame, 2 * i * row + 2 * j * channels + c, row, channels,
                          tiles, p * channels + c, 4 * step, step)  # fmt: skip
        return held

    return tiles_in


_patches_in, _pixels_in = make_tiles_in(_B), make_tiles_in(_transposed(_A))


@inlined
def _fill(frame: Any, image: Any, corner: Any) -> None:
    """The image into the frame; its border stays zero."""
    height, width, channels = image.shape
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                frame[corner[0] + i, corner[1] + j, c] = image[i, j, c]


@inlined
def _frame(height: int, width: int, channels: int, like: Any) -> Any:
    """Zeros around an image of which the tiles of so many outputs see every patch."""
    return np.zeros(((height + 1) // 2 * 2 + 2, (width + 1) // 2 * 2 + 2, padded(channels, like.itemsize)), like.dtype)


@inlined
def _scratch(rows: int, columns: int, like: Any) -> Any:
    """Room for 16 matrices that begin with a line of the cache, and the step from one to the next.

    It is a line more than their size: at a power of two all 16 would meet in the same few places of the cache.
    """
    lanes = VECTOR_BYTES // like.itemsize
    step = rows * columns + lanes
    room = np.empty(16 * step + lanes, like.dtype)
    return room[-room.ctypes.data % VECTOR_BYTES // like.itemsize :], step


@inlined
def _rows(count: int, step: int) -> Any:
    rows = positions(count)
    for p in range(count):
        rows[p] = p * step
    return rows


@compiled
def _convolve(begin: int, end: int, x: Any, w: Any, y: Any, at_once: int, corner: Any, turned: bool) -> None:
    """Items are (task, chunk of its tiles)."""
    _, height, width, outputs = y.shape
    depth, columns = x.shape[3], padded(outputs, y.itemsize)
    frame = _frame(height, width, depth, x)
    channels = frame.shape[2]
    tiles = len(x) // len(w) * ((height + 1) // 2) * ((width + 1) // 2)
    chunks = -(-tiles // at_once)
    patches, patch_step = _scratch(at_once, channels, x)
    filters, filter_step = _scratch(channels, columns, x)
    products, product_step = _scratch(at_once, columns, x)
    offsets, rows_at = _rows(at_once, channels), _rows(at_once, columns)
    spread = np.empty((3, 3, channels, columns), x.dtype) if turned else w[0]
    task = held = -1
    for item in range(begin, end):
        t, first = item // chunks, item % chunks * at_once
        some = min(at_once, tiles - first)
        if task != t:
            task = t
            if turned:
                _turn(w[t], spread)
            else:
                spread = w[t]
            _filters_in(spread, depth, filters, filter_step)
        held = _patches_in(x, t * tiles + first, some, frame, corner, held, patches, patch_step)
        for xi in range(16):
            _cover(patches, xi * patch_step, offsets, filters, xi * filter_step, columns, products, xi * product_step,
                   rows_at, some, columns, (1, 1, depth), (0, 0, 1), False)  # fmt: skip
        _tiles_out(products, product_step, columns, y, t * tiles + first, some)


@inlined
def _turn(w: Any, turned: Any) -> None:
    """turned[u, v, o, c] = w[2 - u, 2 - v, c, o]."""
    for u in range(3):
        for v in range(3):
            transpose(w[2 - u, 2 - v], turned[u, v])


@inlined
def _filters_in(w: Any, depth: int, filters: Any, step: int) -> None:
    tap = w[0, 0].size
    for k in range(0, depth * w.shape[3], VECTOR_BYTES // w.itemsize):
        _weights_in(w, k, 3 * tap, tap, filters, k, 4 * step, step)


@inlined
def _tiles_out(products: Any, step: int, columns: int, y: Any, first: int, some: int) -> None:
    """y = A' products A; what lies half outside the image, or ends within a vector, goes through a patch of its own."""
    _, height, width, outputs = y.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    lanes = VECTOR_BYTES // y.itemsize
    patch = np.empty((2, 2, columns), y.dtype)
    for p in range(some):
        image, tile = divmod(first + p, down * across)
        i, j = divmod(tile, across)
        i, j = 2 * i, 2 * j
        if i + 1 < height and j + 1 < width and columns == outputs:
            at = ((image * height + i) * width + j) * outputs
            for o in range(0, columns, lanes):
                _products_out(products, p * columns + o, 4 * step, step, y, at + o, width * outputs, outputs)
        else:
            for o in range(0, columns, lanes):
                _products_out(products, p * columns + o, 4 * step, step, patch, o, 2 * columns, columns)
            for u in range(min(2, height - i)):
                for v in range(min(2, width - j)):
                    for o in range(outputs):
                        y[image, i + u, j + v, o] = patch[u, v, o]


@compiled
def _weight(begin: int, end: int, x: Any, g: Any, gw: Any, at_once: int, corner: Any) -> None:
    """Items are (task, part of its tiles); rows are channels, the sum runs over tiles."""
    tasks, parts, _, _, depth, columns = gw.shape
    _, height, width, outputs = g.shape
    frame, g_frame = _frame(height, width, depth, x), _frame(height, width, outputs, g)
    channels = frame.shape[2]
    tiles = len(x) // tasks * ((height + 1) // 2) * ((width + 1) // 2)
    patches, patch_step = _scratch(at_once, channels, x)
    pixels, pixel_step = _scratch(at_once, columns, x)
    filters, filter_step = _scratch(depth, columns, x)
    offsets, rows_at = _rows(depth, 1), _rows(depth, columns)
    x_held = g_held = -1
    for item in range(begin, end):
        t, part = item // parts, item % parts
        start, last = t * tiles + tiles * part // parts, t * tiles + tiles * (part + 1) // parts
        for first in range(start, last, at_once):
            some = min(at_once, last - first)
            x_held = _patches_in(x, first, some, frame, corner, x_held, patches, patch_step)
            g_held = _pixels_in(g, first, some, g_frame, (0, 0), g_held, pixels, pixel_step)
            for xi in range(16):
                _cover(patches, xi * patch_step, offsets, pixels, xi * pixel_step, columns, filters, xi * filter_step,
                       rows_at, depth, columns, (1, 1, some), (0, 0, channels), first > start)  # fmt: skip
        tap = depth * columns
        for k in range(0, tap, VECTOR_BYTES // x.itemsize):
            _weights_out(filters, k, 4 * filter_step, filter_step, gw, item * 9 * tap + k, 3 * tap, tap)
