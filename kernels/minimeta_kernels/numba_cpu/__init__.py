"""Kernels for NumPy arrays on the processor, compiled by Numba."""

from minimeta_kernels.numba_cpu import convolution, lrua, lstm, norm_relu_pool

__all__ = ["convolution", "lrua", "lstm", "norm_relu_pool"]
