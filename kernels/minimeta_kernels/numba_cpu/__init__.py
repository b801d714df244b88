"""Kernels for NumPy arrays on the processor, compiled by Numba."""

from minimeta_kernels.numba_cpu import attention, convolution, lrua, lstm, norm_relu_pool, pairwise

__all__ = ["attention", "convolution", "lrua", "lstm", "norm_relu_pool", "pairwise"]
