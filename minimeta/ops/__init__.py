"""Every operation, under NumPy's name. On plain arrays they return plain arrays, on Tensors Tensors."""

from minimeta.autodiff.primitives import astype, broadcast_to, concatenate
from minimeta.ops.conv import avg_pool2d, conv2d, max_pool2d
from minimeta.ops.elementwise import (
    abs,
    add,
    clip,
    cos,
    divide,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from minimeta.ops.fused.attention import attention, cosine_attention
from minimeta.ops.fused.conv_block import conv_block
from minimeta.ops.fused.lrua import LruaState, lrua, lrua_read, lrua_step, lrua_write
from minimeta.ops.fused.lrua_lstm import LruaLstmState, lrua_lstm
from minimeta.ops.fused.lstm import lstm_cell, lstm_gates
from minimeta.ops.fused.lstm_last import lstm_last
from minimeta.ops.fused.mlp import mlp
from minimeta.ops.fused.norm_relu import batch_norm_relu
from minimeta.ops.fused.norm_relu_pool import batch_norm_relu_max_pool2d
from minimeta.ops.fused.pairwise import cosine, euclidean, l1, sqeuclidean
from minimeta.ops.fused.relu_sum_pool import relu_sum_max_pool2d
from minimeta.ops.indexing import (
    argmax,
    argmin,
    argsort,
    equal,
    getitem,
    greater,
    greater_equal,
    index_add,
    index_update,
    isfinite,
    isnan,
    less,
    less_equal,
    not_equal,
    one_hot,
    sort,
    take,
    take_along_axis,
)
from minimeta.ops.linalg import (
    cholesky,
    diag,
    dot,
    einsum,
    inv,
    matmul,
    norm,
    outer,
    slogdet,
    solve,
    tensordot,
    trace,
)
from minimeta.ops.methods import attach as _attach
from minimeta.ops.nn import (
    batch_norm,
    binary_cross_entropy_with_logits,
    cross_entropy,
    layer_norm,
    log_softmax,
    mse,
    softmax,
)
from minimeta.ops.reduce import cumsum, logsumexp, max, mean, min, prod, std, sum, var
from minimeta.ops.shape import (
    expand_dims,
    flip,
    moveaxis,
    pad,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    unstack,
)

_attach()

__all__ = [
    "LruaLstmState", "LruaState", "abs", "add", "argmax", "argmin", "argsort", "astype", "attention", "avg_pool2d",
    "batch_norm", "batch_norm_relu", "batch_norm_relu_max_pool2d", "binary_cross_entropy_with_logits", "broadcast_to",
    "cholesky", "clip", "concatenate", "conv2d", "conv_block", "cos", "cosine", "cosine_attention", "cross_entropy",
    "cumsum", "diag", "divide", "dot", "einsum", "equal", "euclidean", "exp", "expand_dims", "expm1", "flip", "getitem",
    "greater", "greater_equal", "index_add", "index_update", "inv", "isfinite", "isnan", "l1", "layer_norm", "less",
    "less_equal", "log", "log1p", "log_softmax", "logsumexp", "lrua", "lrua_lstm", "lrua_read", "lrua_step",
    "lrua_write", "lstm_cell", "lstm_gates", "lstm_last", "matmul", "max", "max_pool2d", "maximum", "mean", "min",
    "minimum", "mlp", "moveaxis", "mse", "multiply", "negative", "norm", "not_equal", "one_hot", "outer", "pad",
    "power", "prod", "relu", "relu_sum_max_pool2d", "repeat", "reshape", "roll", "sigmoid", "sign", "sin", "slogdet",
    "softmax", "softplus", "solve", "sort", "split", "sqeuclidean", "sqrt", "square", "squeeze", "stack", "std",
    "subtract", "sum", "swapaxes", "take", "take_along_axis", "tanh", "tensordot", "tile", "trace", "transpose",
    "unstack", "var", "where",
]  # fmt: skip
