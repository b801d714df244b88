"""Kernels for NumPy arrays on the processor, compiled by Numba."""

from minimeta_kernels.numba_cpu import (
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
    task_mlp,
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
    "task_mlp",
]
