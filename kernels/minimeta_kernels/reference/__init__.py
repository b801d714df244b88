"""Every kernel in plain array code for any array module: what the others are tested against."""

from minimeta_kernels.reference import (
    attention,
    conv_block,
    convolution,
    lrua,
    lrua_lstm,
    lstm,
    lstm_last,
    matmul,
    mlp,
    norm_relu,
    norm_relu_pool,
    pairwise,
    relu_sum_pool,
)

__all__ = [
    "attention",
    "conv_block",
    "convolution",
    "lrua",
    "lrua_lstm",
    "lstm",
    "lstm_last",
    "matmul",
    "mlp",
    "norm_relu",
    "norm_relu_pool",
    "pairwise",
    "relu_sum_pool",
]
