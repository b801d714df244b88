"""The conv block of few-shot learning: convolution 3x3, batch norm by batch statistics, ReLU, max-pool 2x2."""

from __future__ import annotations

from typing import Any

import minimeta_kernels
from minimeta import backend
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.ops.conv import conv2d
from minimeta.ops.fused.batch_norm import per_task, with_statistics
from minimeta.ops.fused.norm_relu_pool import batch_norm_relu_max_pool2d
from minimeta.ops.record import Draw, record
from minimeta.ops.results import Results, part

#: With more channels than this, making a convolution twice costs more than keeping its result.
_FEW_CHANNELS = 4


def conv_block(x: Any, w: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> tuple[Any, dict[str, Any]]:
    """`batch_norm_relu_max_pool2d(conv2d(x, w, padding=1), gamma, beta)`, without keeping the convolution of images.

    x [T, B, H, W, C]; w [3, 3, C, O] or [T, 3, 3, C, O]; gamma and beta [O] or [T, O]. Returns [T, B, H // 2, W // 2,
    O] and the statistics {"mean", "var"} [T, O] as constants. Raises ValueError where shapes do not fit.

    >>> conv_block(np.ones((1, 2, 8, 8, 1)), np.ones((3, 3, 1, 4)), np.ones(4), np.zeros(4))[0].shape
    (1, 2, 4, 4, 4)
    """
    traced = type(x) is Tensor and x.node is not None
    if traced or not _is_first_block(x, w, gamma, beta):
        return batch_norm_relu_max_pool2d(conv2d(x, w, padding=1), gamma, beta, eps)
    filters = w if w.ndim == 5 else w.reshape((1, *w.shape))
    return with_statistics(_conv_block(x, filters, *per_task((x.shape[0], w.shape[-1]), gamma, beta), eps=eps))


def _is_first_block(x: Any, w: Any, gamma: Any, beta: Any) -> bool:
    """Whether shapes are those of the fused kernel; others take the two operations' way, and get their errors."""
    if x.ndim != 5 or w.ndim not in (4, 5) or x.shape[-1] > _FEW_CHANNELS or min(x.shape[1:4]) < 1:
        return False
    tasks, outputs = x.shape[0], w.shape[-1]
    fits = w.shape[-4:] == (3, 3, x.shape[-1], outputs) and w.shape[:-4] in ((), (tasks,))
    channels = {gamma.shape, beta.shape} <= {(outputs,), (tasks, outputs)}
    return fits and channels and min(x.shape[2:4]) >= 2


@op(saves="all")
def _conv_block(xp: Any, x: Any, w: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    return Results(tuple(minimeta_kernels.call("conv_block", x, w, gamma, beta, eps=eps)))


@_conv_block.vjp()
def _(g: Any, y: Any, x: Any, w: Any, gamma: Any, beta: Any, eps: float) -> Any:
    if type(g) is not Tensor:
        arrays = (part(g, 0), *y.arrays[1:], x, w, gamma, beta)
        return None, *minimeta_kernels.call("conv_block_vjp", *arrays, eps=eps)

    def composite(w: Any, gamma: Any, beta: Any) -> Any:
        filters = w if w.shape[0] == x.shape[0] else w[0]
        return batch_norm_relu_max_pool2d(conv2d(x, filters, padding=1), gamma, beta, eps)[0]

    return None, *vjp(composite, w, gamma, beta)[1](part(g, 0))


def _weights(draw: Draw) -> Any:
    """Of a block on fixed images: no value near the kink of ReLU, see batch_norm_relu_max_pool2d."""
    tasks, channels, outputs = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    x = draw.array((tasks, 2, draw.integer(2, 3), draw.integer(2, 4), channels))
    w = draw.array(draw.choice(((3, 3, channels, outputs), (tasks, 3, 3, channels, outputs))))
    shape = draw.choice(((outputs,), (tasks, outputs)))
    return (w, draw.array(shape, 0.3, 0.5), draw.array(shape, 3.0, 4.0)), {"x": x}


def _record(w: Any, gamma: Any, beta: Any, x: Any) -> Any:
    like = w.data if type(w) is Tensor else w
    return conv_block(backend.namespace(like).asarray(x, dtype=like.dtype), w, gamma, beta)[0]


def _composite(w: Any, gamma: Any, beta: Any, x: Any) -> Any:
    return batch_norm_relu_max_pool2d(conv2d(x, w, padding=1), gamma, beta)[0]


_record.__name__, _record.__doc__ = conv_block.__name__, conv_block.__doc__
record(_record, _weights, _composite)
