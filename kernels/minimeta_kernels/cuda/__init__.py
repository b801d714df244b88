"""Kernels for CuPy's arrays, CUDA C++ compiled by NVRTC; for NumPy's by g++ and a shim, to be tested without a GPU."""

from minimeta_kernels.cuda import (
    attention,
    lrua,
    lrua_lstm,
    lstm,
    lstm_last,
    norm_relu_pool,
    pairwise,
    products,
    relu_sum_pool,
)

__all__ = [
    "attention",
    "lrua",
    "lrua_lstm",
    "lstm",
    "lstm_last",
    "norm_relu_pool",
    "pairwise",
    "products",
    "relu_sum_pool",
]
