"""Kernels for NumPy arrays on the processor, compiled by Numba."""

from minimeta_kernels.numba_cpu import convolution, norm_relu_pool

__all__ = ["convolution", "norm_relu_pool"]
