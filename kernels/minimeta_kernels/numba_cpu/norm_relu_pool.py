"""Batch norm, ReLU and max-pool 2x2 in two passes over the images: sums per channel, then every pixel once.

Equations and arguments: minimeta_kernels.reference.norm_relu_pool. Sums that only winners enter are taken over the
pooled size. Loops go through memory in order, vectors of channels innermost: what belongs to the channels alone is read
from the first-level cache again and again, which costs less than jumping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.vector import data, load, load_some, select, spread, store, store_some
from minimeta_kernels.reference.norm_relu_pool import NormReluPool
from minimeta_kernels.registry import register

_BYTES = TARGET.vector_bytes

#: With fewer tasks than this, sums over a task are put together from several parts of its images.
_MANY_TASKS = 8
_PARTS = 16


def _parts(x: Any) -> int:
    """Into how many parts a task's images are cut; by shape alone, so that threads do not change sums."""
    return 1 if x.shape[0] >= _MANY_TASKS else max(1, min(_PARTS, x.shape[1]))


@register("norm_relu_pool", "numba", launch.refuses)
def norm_relu_pool(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], gamma and beta [T, C] -> [T, B, H // 2, W // 2, C], statistics [T, C]."""
    x, gamma, beta = launch.contiguous(x, gamma, beta)
    mean, var = _statistics(x)
    shape = (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, x.shape[4])
    pooled, top = np.empty(shape, x.dtype), np.empty(shape, x.dtype)
    parts = _parts(x)
    launch.parallel(
        _normalise, len(x) * parts, 6 * x.size, x, mean, gamma * _rate(var, eps), beta, pooled, top, parts
    )
    return NormReluPool(pooled, top, mean, var)


def _rate(var: Any, eps: float) -> Any:
    """r = 1 / sqrt(var + eps)."""
    return (1 / np.sqrt(var + eps)).astype(var.dtype, copy=False)


def _statistics(x: Any) -> tuple[Any, Any]:
    """Mean and biased variance [T, C]; without pixels they are NaN, as NumPy has it."""
    parts = _parts(x)
    moments = np.zeros((len(x), parts, 2, x.shape[-1]), x.dtype)
    launch.parallel(_moments, len(x) * parts, 3 * x.size, x, moments)
    sizes = np.diff([x.shape[1] * i // parts for i in range(parts + 1)]) * x.shape[2] * x.shape[3]
    count, mean, squares = 0, 0 * moments[:, 0, 0], 0 * moments[:, 0, 1]
    for i, more in enumerate(sizes.tolist()):
        if more:
            step = moments[:, i, 0] - mean
            mean = mean + step * (more / (count + more))
            squares = squares + moments[:, i, 1] + step * step * (count * more / (count + more))
            count += more
    if count == 0:
        return mean * np.nan, mean * np.nan
    return mean, squares / count


@inlined
def _sums(rows: int, x: Any) -> Any:
    """Room for some sums per channel of x, each in whole vectors."""
    lanes = _BYTES // x.itemsize
    return np.zeros((rows, (x.shape[4] + lanes - 1) // lanes * lanes), x.dtype)


@inlined
def _add(sums: Any, at: int, vector: Any) -> None:
    store(sums, at, load(sums, at) + vector)


@compiled
def _moments(begin: int, end: int, x: Any, moments: Any) -> None:
    """Mean and sum of squared deviations of each part, image by image, merged as Chan, Golub and LeVeque (1983) do.

    Within an image deviations are taken from its first pixel: one of the summed numbers, it bounds the cancellation.
    """
    _, images, height, width, channels = x.shape
    parts = moments.shape[1]
    pixels = height * width
    lanes = _BYTES // x.itemsize
    whole = channels // lanes * lanes
    sums = _sums(2, x)
    x_, sums_, wide = data(x), data(sums), sums.shape[1]
    if pixels == 0:
        return
    for item in range(begin, end):
        t, part = item // parts, item % parts
        first = images * part // parts
        for b in range(first, images * (part + 1) // parts):
            image = (t * images + b) * pixels * channels
            sums[:] = 0
            for p in range(image, image + pixels * channels, channels):
                for c in range(0, whole, lanes):
                    _add_deviation(sums_, wide, x_, p, image, c, lanes)
                if whole < channels:
                    _add_deviation(sums_, wide, x_, p, image, whole, channels - whole)
            before, here = x.dtype.type((b - first) * pixels), x.dtype.type(pixels)
            for c in range(channels):
                mean, m2 = moments[t, part, 0, c], moments[t, part, 1, c]
                shift = sums[0, c] / here
                step = x[t, b, 0, 0, c] + shift - mean
                moments[t, part, 0, c] = mean + step * (here / (before + here))
                m2 += sums[1, c] - sums[0, c] * shift + step * step * (before * here / (before + here))
                moments[t, part, 1, c] = m2


@inlined
def _add_deviation(sums: Any, wide: int, x: Any, p: int, origin: int, c: int, n: int) -> None:
    d = load_some(x, p + c, n) - load_some(x, origin + c, n)
    _add(sums, c, d)
    _add(sums, wide + c, d * d)


@compiled
def _normalise(
    begin: int, end: int, x: Any, mean: Any, k: Any, beta: Any, pooled: Any, top: Any, parts: int
) -> None:
    _, images, height, width, channels = x.shape
    _, _, rows, columns, _ = pooled.shape
    lanes = _BYTES // x.itemsize
    whole = channels // lanes * lanes
    zero = x.dtype.type(0)
    x_, mean_, k_, beta_, pooled_, top_ = data(x), data(mean), data(k), data(beta), data(pooled), data(top)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        for b in range(images * part // parts, images * (part + 1) // parts):
            for i in range(rows):
                for j in range(columns):
                    corner = (((t * images + b) * height + 2 * i) * width + 2 * j) * channels
                    out = (((t * images + b) * rows + i) * columns + j) * channels
                    for c in range(0, whole, lanes):
                        _best(x_, mean_, k_, beta_, pooled_, top_, corner + c, width * channels, channels,
                              t * channels + c, out + c, lanes, zero)  # fmt: skip
                    if whole < channels:
                        _best(x_, mean_, k_, beta_, pooled_, top_, corner + whole, width * channels, channels,
                              t * channels + whole, out + whole, channels - whole, zero)  # fmt: skip


@inlined
def _best(
    x: Any, mean: Any, k: Any, beta: Any, pooled: Any, top: Any, corner: int, row: int, column: int, at: int, out: int,
    n: int, nought: Any,
) -> None:  # fmt: skip
    """The winner of one window, and relu of its normalised value, of `n` channels."""
    m, scale, shift = load_some(mean, at, n), load_some(k, at, n), load_some(beta, at, n)
    zero = spread(nought)
    winner = load_some(x, corner, n)
    best = (winner - m) * scale + shift
    for q in range(1, 4):
        pixel = load_some(x, corner + (q // 2) * row + (q % 2) * column, n)
        z = (pixel - m) * scale + shift
        better = z > best
        winner, best = select(better, pixel, winner), select(better, z, best)
    store_some(top, out, winner, n)
    store_some(pooled, out, select(best < zero, zero, best), n)  # NaN stays NaN


@register("norm_relu_pool_vjp", "numba", launch.refuses)
def norm_relu_pool_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    g, top, mean, var, x, gamma, beta = launch.contiguous(g, top, mean, var, x, gamma, beta)
    r = _rate(var, eps)
    k = gamma * r
    parts = _parts(x)
    sums = np.zeros((len(x), parts, 2, x.shape[-1]), x.dtype)
    launch.parallel(_winner_sums, len(x) * parts, 6 * g.size, g, top, mean, k, beta, sums)
    g_beta, g_gamma = np.moveaxis(sums.sum(axis=1), 1, 0)
    g_gamma = g_gamma * r
    gx = np.empty_like(x)
    if x.size:
        # gx = k g - k mean(g) - (x - mean) k r mean(g x_hat)
        n = x.dtype.type(x[0, ..., 0].size)
        level, slope = -k * g_beta / n, -k * r * g_gamma / n
        coefficients = np.stack([mean, k, beta, level, slope], axis=1)
        launch.parallel(_spread, len(x) * parts, 6 * x.size, g, top, x, coefficients, gx, parts)
    return gx, g_gamma, np.ascontiguousarray(g_beta)


@compiled
def _winner_sums(begin: int, end: int, g: Any, top: Any, mean: Any, k: Any, beta: Any, sums: Any) -> None:
    """Sums of g and g (top - mean) over the windows that are alive; each image on its own first, for the digits."""
    _, images, height, width, channels = g.shape
    parts = sums.shape[1]
    lanes = _BYTES // g.itemsize
    whole = channels // lanes * lanes
    image = _sums(2, g)
    zero = g.dtype.type(0)
    g_, top_, mean_, k_, beta_ = data(g), data(top), data(mean), data(k), data(beta)
    image_, wide = data(image), image.shape[1]
    for item in range(begin, end):
        t, part = item // parts, item % parts
        for b in range(images * part // parts, images * (part + 1) // parts):
            image[:] = 0
            for p in range((t * images + b) * height * width, (t * images + b + 1) * height * width):
                for c in range(0, whole, lanes):
                    _add_winner(image_, wide, g_, top_, mean_, k_, beta_, p * channels + c,
                                t * channels + c, c, lanes, zero)  # fmt: skip
                if whole < channels:
                    _add_winner(image_, wide, g_, top_, mean_, k_, beta_, p * channels + whole,
                                t * channels + whole, whole, channels - whole, zero)  # fmt: skip
            sums[t, part] += image[:, :channels]


@inlined
def _add_winner(
    image: Any, wide: int, g: Any, top: Any, mean: Any, k: Any, beta: Any, p: int, at: int, c: int, n: int, nought: Any
) -> None:
    d = load_some(top, p, n) - load_some(mean, at, n)
    zero = spread(nought)
    value = select(d * load_some(k, at, n) + load_some(beta, at, n) > zero, load_some(g, p, n), zero)
    _add(image, c, value)
    _add(image, wide + c, value * d)


@inlined
def _of(coefficients: Any, channels: int, which: int, c: int, n: int) -> Any:
    """One of the vectors that belong to the channels of a task, whose `coefficients` begin at the pointer."""
    return load_some(coefficients, which * channels + c, n)


@compiled
def _spread(begin: int, end: int, g: Any, top: Any, x: Any, coefficients: Any, gx: Any, parts: int) -> None:
    """gx = k (g at the winners) + level + slope (x - mean)."""
    _, images, height, width, channels = x.shape
    _, _, rows, columns, _ = g.shape
    lanes = _BYTES // x.itemsize
    whole = channels // lanes * lanes
    zero = x.dtype.type(0)
    g_, top_, x_, gx_ = data(g), data(top), data(x), data(gx)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = data(coefficients[t])
        for b in range(images * part // parts, images * (part + 1) // parts):
            image = (t * images + b) * height * width
            for i in range(rows):
                for j in range(columns):
                    corner = (image + 2 * i * width + 2 * j) * channels
                    pooled = (((t * images + b) * rows + i) * columns + j) * channels
                    for c in range(0, whole, lanes):
                        _spread_window(g_, top_, x_, of_task, gx_, channels, c, corner, width * channels, pooled,
                                       lanes, zero)  # fmt: skip
                    if whole < channels:
                        _spread_window(g_, top_, x_, of_task, gx_, channels, whole, corner, width * channels, pooled,
                                       channels - whole, zero)  # fmt: skip
            for u in range(height):
                for v in range(_first_left_over(u, rows, columns), width):
                    for c in range(0, channels, lanes):
                        n, p = channels - c, (image + u * width + v) * channels + c
                        d = load_some(x_, p, n) - _of(of_task, channels, 0, c, n)
                        level, slope = _of(of_task, channels, 3, c, n), _of(of_task, channels, 4, c, n)
                        store_some(gx_, p, d * slope + level, n)


@inlined
def _spread_window(
    g: Any, top: Any, x: Any, of_task: Any, gx: Any, channels: int, c: int, corner: int, row: int, pooled: int, n: int,
    nought: Any,
) -> None:  # fmt: skip
    zero = spread(nought)
    m, k, beta = _of(of_task, channels, 0, c, n), _of(of_task, channels, 1, c, n), _of(of_task, channels, 2, c, n)
    level, slope = _of(of_task, channels, 3, c, n), _of(of_task, channels, 4, c, n)
    winner = load_some(top, pooled + c, n)
    left = select((winner - m) * k + beta > zero, load_some(g, pooled + c, n), zero)
    for q in range(4):
        p = corner + (q // 2) * row + (q % 2) * channels + c
        pixel = load_some(x, p, n)
        won = pixel == winner
        value = select(won, left, zero)
        left = select(won, zero, left)  # of equals the first
        store_some(gx, p, value * k + ((pixel - m) * slope + level), n)


@inlined
def _first_left_over(row: int, rows: int, columns: int) -> int:
    """The first column of an image row that is in no window."""
    return 2 * columns if row < 2 * rows else 0


@register("norm_relu_pool_vjp2", "numba", launch.refuses)
def norm_relu_pool_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *,
    eps: float = 1e-5,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    u, u_gamma, u_beta, g, top, mean, var, x, gamma, beta = launch.contiguous(
        *cotangents, g, top, mean, var, x, gamma, beta
    )
    r = _rate(var, eps)
    k = gamma * r
    parts = _parts(x)
    gg, gx = np.empty_like(g), np.empty_like(x)
    sums = np.zeros((len(x), parts, 5, x.shape[-1]), x.dtype)
    launch.parallel(_five_sums, len(x) * parts, 8 * x.size, u, g, top, x, mean, k, beta, sums)
    n = x.dtype.type(max(1, x[:1, ..., :1].size))
    mean_g, mean_gd, mean_u, mean_ud, mean_gu = np.moveaxis(sums.sum(axis=1), 1, 0) / n
    mean_gx, mean_ux = mean_gd * r, mean_ud * r
    mean_gxd = r * (mean_gu - mean_g * mean_u - mean_gx * mean_ux)  # mean(g xd)
    # gg = k U + gg_x (x - mean) + gg_1; gx = gx_g g + gx_u U + gx_x (x - mean) + gx_1, coefficients per channel
    gg_x = (u_gamma - k * mean_ux) * r
    gg_1 = u_beta - k * mean_u
    gx_g = u_gamma * r - k * r * mean_ux
    gx_u = -k * r * mean_gx
    gx_x = (-gx_g * mean_gx + k * r * mean_ux * mean_gx - k * mean_gxd) * r
    gx_1 = -gx_g * mean_g + k * r * mean_u * mean_gx
    coefficients = np.stack([mean, k, beta, gg_x, gg_1, gx_g, gx_u, gx_x, gx_1], axis=1)
    launch.parallel(_combine, len(x) * parts, 12 * x.size, u, g, top, x, coefficients, gg, gx, parts)
    return gg, gx, mean_gxd * n


@compiled
def _five_sums(
    begin: int, end: int, u: Any, g: Any, top: Any, x: Any, mean: Any, k: Any, beta: Any, sums: Any
) -> None:
    """Sums of g, g (x - mean), U, U (x - mean) and g U, each image on its own first."""
    _, images, height, width, channels = x.shape
    _, _, rows, columns, _ = g.shape
    parts = sums.shape[1]
    lanes = _BYTES // x.itemsize
    whole = channels // lanes * lanes
    of_image = _sums(5, x)
    zero = x.dtype.type(0)
    sums_, wide = data(of_image), of_image.shape[1]
    u_, g_, top_, x_, mean_, k_, beta_ = data(u), data(g), data(top), data(x), data(mean), data(k), data(beta)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        for b in range(images * part // parts, images * (part + 1) // parts):
            image = (t * images + b) * height * width
            of_image[:] = 0
            for i in range(rows):
                for j in range(columns):
                    corner = (image + 2 * i * width + 2 * j) * channels
                    pooled = (((t * images + b) * rows + i) * columns + j) * channels
                    for c in range(0, whole, lanes):
                        _add_window(sums_, wide, u_, g_, top_, x_, mean_, k_, beta_, t * channels, channels, c, corner,
                                    width * channels, pooled, lanes, zero)  # fmt: skip
                    if whole < channels:
                        _add_window(sums_, wide, u_, g_, top_, x_, mean_, k_, beta_, t * channels, channels, whole,
                                    corner, width * channels, pooled, channels - whole, zero)  # fmt: skip
            for v in range(height):
                for w in range(_first_left_over(v, rows, columns), width):
                    for c in range(0, channels, lanes):
                        n, p = channels - c, (image + v * width + w) * channels + c
                        cotangent, m = load_some(u_, p, n), load_some(mean_, t * channels + c, n)
                        _add(sums_, 2 * wide + c, cotangent)
                        _add(sums_, 3 * wide + c, cotangent * (load_some(x_, p, n) - m))
            sums[t, part] += of_image[:, :channels]


@inlined
def _add_window(
    sums: Any, wide: int, u: Any, g: Any, top: Any, x: Any, mean: Any, k: Any, beta: Any, task: int, channels: int,
    c: int, corner: int, row: int, pooled: int, n: int, nought: Any,
) -> None:  # fmt: skip
    zero = spread(nought)
    m = load_some(mean, task + c, n)
    d = load_some(top, pooled + c, n) - m
    alive = d * load_some(k, task + c, n) + load_some(beta, task + c, n) > zero
    left = select(alive, load_some(g, pooled + c, n), zero)
    _add(sums, c, left)
    _add(sums, wide + c, left * d)
    sum_u, sum_ud, sum_gu = zero, zero, zero
    for q in range(4):
        p = corner + (q // 2) * row + (q % 2) * channels + c
        cotangent, here = load_some(u, p, n), load_some(x, p, n) - m
        won = here == d
        sum_u, sum_ud = sum_u + cotangent, sum_ud + cotangent * here
        sum_gu = sum_gu + select(won, left, zero) * cotangent
        left = select(won, zero, left)
    _add(sums, 2 * wide + c, sum_u)
    _add(sums, 3 * wide + c, sum_ud)
    _add(sums, 4 * wide + c, sum_gu)


@compiled
def _combine(
    begin: int, end: int, u: Any, g: Any, top: Any, x: Any, coefficients: Any, gg: Any, gx: Any, parts: int
) -> None:
    """gg = k U + gg_x (x - mean) + gg_1 at the winners, gx = gx_g g + gx_u U + gx_x (x - mean) + gx_1 everywhere."""
    _, images, height, width, channels = x.shape
    _, _, rows, columns, _ = g.shape
    lanes = _BYTES // x.itemsize
    whole = channels // lanes * lanes
    zero, one = x.dtype.type(0), x.dtype.type(1)
    u_, g_, top_, x_, gg_, gx_ = data(u), data(g), data(top), data(x), data(gg), data(gx)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = data(coefficients[t])
        for b in range(images * part // parts, images * (part + 1) // parts):
            image = (t * images + b) * height * width
            for i in range(rows):
                for j in range(columns):
                    corner = (image + 2 * i * width + 2 * j) * channels
                    pooled = (((t * images + b) * rows + i) * columns + j) * channels
                    for c in range(0, whole, lanes):
                        _combine_window(u_, g_, top_, x_, of_task, gg_, gx_, channels, c, corner, width * channels,
                                        pooled, lanes, zero, one)  # fmt: skip
                    if whole < channels:
                        _combine_window(u_, g_, top_, x_, of_task, gg_, gx_, channels, whole, corner,
                                        width * channels, pooled, channels - whole, zero, one)  # fmt: skip
            for v in range(height):
                for w in range(_first_left_over(v, rows, columns), width):
                    for c in range(0, channels, lanes):
                        n, p = channels - c, (image + v * width + w) * channels + c
                        gx_u, gx_x = _of(of_task, channels, 6, c, n), _of(of_task, channels, 7, c, n)
                        d = load_some(x_, p, n) - _of(of_task, channels, 0, c, n)
                        rest = gx_x * d + _of(of_task, channels, 8, c, n)
                        store_some(gx_, p, gx_u * load_some(u_, p, n) + rest, n)


@inlined
def _combine_window(
    u: Any, g: Any, top: Any, x: Any, of_task: Any, gg: Any, gx: Any, channels: int, c: int, corner: int, row: int,
    pooled: int, n: int, nought: Any, unity: Any,
) -> None:  # fmt: skip
    zero, one = spread(nought), spread(unity)
    m, k, beta = _of(of_task, channels, 0, c, n), _of(of_task, channels, 1, c, n), _of(of_task, channels, 2, c, n)
    gg_x, gg_1, gx_g = _of(of_task, channels, 3, c, n), _of(of_task, channels, 4, c, n), _of(of_task, channels, 5, c, n)
    gx_u, gx_x, gx_1 = _of(of_task, channels, 6, c, n), _of(of_task, channels, 7, c, n), _of(of_task, channels, 8, c, n)
    winner = load_some(top, pooled + c, n)
    alive = (winner - m) * k + beta > zero
    left, open_, chosen = select(alive, load_some(g, pooled + c, n), zero), select(alive, one, zero), zero
    for q in range(4):
        p = corner + (q // 2) * row + (q % 2) * channels + c
        pixel, cotangent = load_some(x, p, n), load_some(u, p, n)
        d, won = pixel - m, pixel == winner
        store_some(gx, p, gx_g * select(won, left, zero) + gx_u * cotangent + (gx_x * d + gx_1), n)
        chosen = select(won & (open_ > zero), k * cotangent + (gg_x * d + gg_1), chosen)
        left, open_ = select(won, zero, left), select(won, zero, open_)  # of equals the first
    store_some(gg, pooled + c, chosen, n)
